"""A program asks, the person signs in through an OpenID provider of other people, allows, and the program works."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.inspector import NPM, Inspector
from tests.browser.notes import protected_notes
from tests.end_to_end.upstream import running_program
from tests.product import ROOT, Product, free_port, running_product
from tests.requirements import requirement

pytestmark = [pytest.mark.independent, pytest.mark.browser]
_PATIENCE_MILLISECONDS = 60_000
_CLIENT = ("site", "site-secret-of-many-characters-for-tests")
_ENTER = """
from connections.models import IdentityProvider
from oauthflow.protocol.secret import Secret
row = IdentityProvider(name="Corp", slug="corp", issuer="{issuer}", client_id="{client_id}", newcomers="everybody")
row.client_secret_sealed = Secret("{client_secret}")
row.full_clean()
row.save()
"""


@requirement("P-01", "P-03", "P-11", "AS08")
def test_somebody_who_signs_in_elsewhere_allows_a_program_here(page: Page, tmp_path: Path) -> None:
    page.set_default_timeout(_PATIENCE_MILLISECONDS)
    page.route("**/*", _only_this_machine)
    with (
        running_product(tmp_path) as product,
        _provider(product, tmp_path) as issuer,
        protected_notes(product, tmp_path) as url,
    ):
        inspector = Inspector(url, tmp_path)
        listed = inspector.sign_in(lambda address: _allow(page, address, issuer=issuer), "--method", "tools/list")
        assert "create_secure_note" in [tool["name"] for tool in listed["tools"]]
        words = ("--method", "tools/call", "--tool-name", "get_user_profile")
        assert not inspector.call(*words).get("isError")


@contextmanager
def _provider(product: Product, folder: Path) -> Iterator[str]:
    """Start it, and enter it as an administrator does; the value is its issuer."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    options = {
        "port": port, "redirectUri": f"{product.url}/accounts/corp/login/callback/",
        "clientId": _CLIENT[0], "clientSecret": _CLIENT[1],
    }  # fmt: skip
    node = next(NPM.glob("node_modules/node-linux-*/bin/node"))
    command = [str(node), str(ROOT / "tests" / "independent" / "openid_provider.mjs"), json.dumps(options)]
    product.run(_ENTER.format(issuer=issuer, client_id=_CLIENT[0], client_secret=_CLIENT[1]))
    with running_program(command, ready=f"{issuer}/.well-known/openid-configuration", log=folder / "provider.log"):
        yield issuer


def _allow(page: Page, address: str, *, issuer: str) -> None:
    page.goto(address)
    before = page.inner_text("main")
    for words in ("calls itself “MCP Inspector”", "Not verified", "127.0.0.1:", "/mcp"):
        assert words in before
    page.get_by_role("button", name="Continue with Corp").click()
    page.wait_for_url(f"{issuer}/interaction/**")
    page.get_by_placeholder("Enter any login").fill("carol")
    page.get_by_placeholder("and password").fill("any")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="Let “MCP Inspector” use Team notes?")).to_be_visible()
    assert "carol" in page.inner_text("main")
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url("http://127.0.0.1:*/oauth/callback?**")


def _only_this_machine(route: Route) -> None:
    """The provider's login page wants fonts from elsewhere."""
    if urlsplit(route.request.url).hostname in ("localhost", "127.0.0.1"):
        route.continue_()
    else:
        route.abort()
