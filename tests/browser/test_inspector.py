"""The Inspector's command line at a server that is protected by our authorization server, from the start to the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.product import Product, running_product
from tests.requirements import requirement

from .inspector import Inspector
from .notes import protected_notes

pytestmark = pytest.mark.browser
_PATIENCE_MILLISECONDS = 60_000
_WRITE = ("--method", "tools/call", "--tool-name", "create_secure_note", "--tool-arg", "title=Hello", "content=World")


@requirement("A-01", "R-04", "P-03", "P-05", "AS01")
def test_somebody_allows_the_inspector_uses_it_and_stops_it(page: Page, tmp_path: Path) -> None:
    page.set_default_timeout(_PATIENCE_MILLISECONDS)
    with running_product(tmp_path) as product, protected_notes(product, tmp_path) as url:
        inspector = Inspector(url, tmp_path)
        listed = inspector.sign_in(lambda address: allow(page, address, product=product), "--method", "tools/list")
        assert "create_secure_note" in [tool["name"] for tool in listed["tools"]]
        written = inspector.call(*_WRITE)
        assert not written.get("isError"), written
        assert written["structuredContent"]["title"] == "Hello"

        page.goto(f"{product.url}/connections/")
        page.locator("summary", has_text="Stop MCP Inspector").click()
        page.get_by_role("button", name="Stop", exact=True).click()
        expect(page.get_by_text("can no longer act for you")).to_be_visible()
        assert "auth_required" in inspector.refusal(*_WRITE)


def allow(page: Page, address: str, *, product: Product) -> None:
    """Sign in, read the question, press Allow, and arrive at the Inspector."""
    page.goto(address)
    page.fill("input[name=login]", "alice")
    page.fill("input[name=password]", product.password)
    page.press("input[name=password]", "Enter")
    expect(page.get_by_role("heading", name="Let “MCP Inspector” use Team notes?")).to_be_visible()
    question = page.inner_text("main")
    for words in ("Not verified", "127.0.0.1:", "That is a program on this computer", "Anybody can choose this name",
                  "alice", "Read your notes", "Write notes for you", "It stays connected"):  # fmt: skip
        assert words in question
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url("http://127.0.0.1:*/oauth/callback?**")
