"""A program asks for a server that needs the person's own sign-in: one visit, two consents, one code."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from playwright.sync_api import Page

from tests.end_to_end.upstream import running_upstream
from tests.product import free_port, running_product
from tests.requirements import requirement

pytestmark = pytest.mark.browser
_SERVER = """
from connections.models import McpServer
McpServer.objects.create(slug="notes", name="Notes", url="{url}", auth_type="oauth", gateway_enabled=True)
"""


@requirement("AS08", "P-11", "P-14")
def test_one_visit_leads_over_our_question_and_the_services_own_to_the_program(page: Page, tmp_path: Path) -> None:
    callback = f"http://127.0.0.1:{free_port()}/callback"
    with (
        running_product(tmp_path) as product,
        running_upstream(tmp_path, redirect_uri=f"{product.url}/api/v1/oauth/callback") as upstream,
    ):
        product.run(_SERVER.format(url=upstream.notes_url))
        client = {"client_name": "Program", "redirect_uris": [callback], "token_endpoint_auth_method": "none"}
        client_id = requests.post(f"{product.url}/oauth/register", json=client, timeout=60).json()["client_id"]
        asked = {
            "client_id": client_id, "redirect_uri": callback, "response_type": "code", "state": "mine",
            "code_challenge": "c" * 43, "code_challenge_method": "S256", "resource": f"{product.url}/mcp/notes",
        }  # fmt: skip
        page.route(f"{callback}**", lambda route: route.fulfill(body="Done."))
        page.goto(f"{product.url}/oauth/authorize?{urlencode(asked)}", timeout=60_000)
        page.fill("input[name=login]", "alice")
        page.fill("input[name=password]", product.password)
        page.press("input[name=password]", "Enter")
        page.get_by_role("button", name="Allow").click(timeout=60_000)
        page.get_by_role("button", name="Continue").click(timeout=60_000)
        page.wait_for_url(f"{upstream.issuer}/**", timeout=60_000)
        page.get_by_label("User name").fill("testuser")
        page.get_by_label("Password").fill("testpass")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Allow").click(timeout=60_000)
        page.wait_for_url(f"{callback}?**", timeout=60_000)
        told = parse_qs(urlsplit(page.url).query)
        assert told["state"] == ["mine"]
        assert told["iss"] == [product.url]
        assert len(told["code"]) == 1
        page.goto(f"{product.url}/connections/", timeout=60_000)
        assert "Connected" in page.inner_text("main")
        assert "Program" in page.inner_text("main")
