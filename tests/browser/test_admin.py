"""The admin in a real browser: nothing inline, nothing too wide, and the way from a new server to its check."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.product import Product, free_port, running_product

pytestmark = pytest.mark.browser
_PAGES = (
    "", "connections/mcpserver/", "connections/mcpserver/add/", "connections/mcpserver/files/",
    "connections/connection/", "connections/apitoken/add/", "connections/flowtrace/", "audit/auditrecord/",
    "auth/user/", "authserver/mcpclient/add/", "authserver/serviceaccount/add/", "authserver/exchangepolicy/add/",
)  # fmt: skip
_SECRET = "marker-of-the-browser"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running_product(tmp_path_factory.mktemp("admin")) as running:
        yield running


def sign_in(page: Page, product: Product, *, path: str = "") -> None:
    page.goto(f"{product.url}/admin/{path}")
    page.get_by_label("User name").or_(page.get_by_label("Username")).fill("admin")
    page.get_by_label("Password").fill(product.password)
    page.get_by_role("button", name="Sign in").click()


_RIGHT_EDGE = """Math.max(
  document.documentElement.scrollWidth,
  ...[...document.querySelectorAll("#content :is(input, select, textarea)")].map(
    field => field.getBoundingClientRect().right
  ),
)"""


def too_wide(page: Page) -> int:
    """By how many pixels the page, or a field that its box cuts off, is wider than the window."""
    pixels: int = page.evaluate(f"Math.ceil({_RIGHT_EDGE} - window.innerWidth)")
    return max(pixels, 0)


def test_somebody_who_signs_in_arrives_where_they_wanted_to_go(product: Product, page: Page) -> None:
    sign_in(page, product, path="audit/auditrecord/")
    expect(page).to_have_url(f"{product.url}/admin/audit/auditrecord/")
    page.get_by_role("button", name="Verify the chain").click()
    expect(page.get_by_text("The chain holds")).to_be_visible()


def test_a_server_is_configured_checked_and_its_attempt_read(product: Product, page: Page) -> None:
    sign_in(page, product, path="connections/mcpserver/add/")
    page.get_by_label("Name:", exact=True).fill("Team Notes")
    page.get_by_label("URL:", exact=True).fill(f"http://localhost:{free_port()}/mcp")
    page.get_by_label("Client secret:").fill(_SECRET)
    expect(page.get_by_label("Slug:")).to_have_value("team-notes")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Nobody has asked the server anything yet")).to_be_visible()
    expect(page.get_by_text("Set, just now")).to_be_visible()
    assert _SECRET not in page.content()

    page.get_by_role("button", name="Check now").click()
    attempts = page.get_by_role("region", name="Last attempts")
    expect(attempts.get_by_text("Failed").first).to_be_visible()
    expect(attempts.get_by_role("columnheader", name="What we made of it")).to_be_visible()


def test_what_to_enter_in_a_program_is_copied_by_a_button(product: Product, page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    sign_in(page, product, path="connections/mcpserver/add/")
    page.get_by_label("Name:", exact=True).fill("Shared Notes")
    page.get_by_label("URL:", exact=True).fill("https://notes.example/mcp")
    page.get_by_label("Gateway", exact=True).check()
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("link", name="What to enter in which program").click()
    page.get_by_text("Cursor", exact=True).click()
    page.get_by_role("button", name="Copy for Cursor").click()
    expect(page.get_by_text("Copied", exact=True)).to_be_visible()
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied == {"mcpServers": {"shared-notes": {"url": f"{product.url}/mcp/shared-notes"}}}
    assert too_wide(page) == 0


def test_the_form_shows_only_what_belongs_to_the_chosen_authentication(product: Product, page: Page) -> None:
    sign_in(page, product, path="connections/mcpserver/add/")
    expect(page.get_by_role("heading", name="Fallback client")).to_be_visible()
    page.get_by_label("Authentication:", exact=True).select_option("header")
    expect(page.get_by_role("heading", name="Fallback client")).to_be_hidden()
    expect(page.get_by_label("Token or header value:")).to_be_visible()
    expect(page.get_by_label("Header name:")).to_be_visible()
    page.get_by_label("Authentication:", exact=True).select_option("bearer")
    expect(page.get_by_label("Header name:")).to_be_hidden()


def test_people_are_chosen_by_typing(product: Product, page: Page) -> None:
    sign_in(page, product, path="connections/mcpserver/add/")
    page.locator(".field-users .select2-selection").click()
    page.keyboard.type("ali")
    page.get_by_role("option", name="alice").click()
    expect(page.locator(".field-users .select2-selection__choice")).to_contain_text("alice")


def test_a_filter_opens_and_narrows_the_list(product: Product, page: Page) -> None:
    sign_in(page, product, path="connections/mcpserver/")
    page.locator("summary", has_text="Status").click()
    page.get_by_role("link", name="Deprecated").click()
    expect(page.locator("summary", has_text="Status: Deprecated")).to_be_visible()
    expect(page.get_by_text("0 MCP servers")).to_be_visible()


_TROUBLES = """
from datetime import timedelta
from django.utils import timezone
from oauthflow.models import IssuerHealth
now = timezone.now()
for name, said in {
    "refuses": {"refusals": 34, "refused_since": now, "guarded_until": now + timedelta(hours=23)},
    "unknown": {"client_id": "0a1b2c3d-4e5f-6789-abcd-ef0123456789", "reason": "invalid_client", "failures": 1,
                "paused_until": now + timedelta(minutes=4)},
    "away": {"reason": "temporarily_unavailable", "failures": 9, "paused_until": now + timedelta(seconds=25)},
    "well": {},
}.items():
    IssuerHealth.objects.update_or_create(key=name, defaults={"issuer": f"https://{name}.sign-in.example.com/", **said})
"""


@pytest.mark.parametrize("width", [1280, 390])
def test_a_service_that_refuses_everybody_is_found_and_believed_after_a_question(
    product: Product, page: Page, width: int
) -> None:
    product.run(_TROUBLES)
    page.set_viewport_size({"width": width, "height": 844})
    sign_in(page, product)
    page.get_by_role("link", name="1 sign-in service refuses everybody's grants.").click()
    row = page.get_by_role("row", name="refuses.sign-in.example.com")
    expect(row.get_by_text("Refuses everybody: not believed")).to_be_visible()
    assert too_wide(page) == 0
    row.get_by_role("checkbox").check()
    page.get_by_label("Action:").select_option("Believe the refusals")
    page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).click()
    assert too_wide(page) == 0
    page.get_by_role("button", name="Believe the refusals").click()
    expect(row.get_by_text("Refusals are believed")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_fits_the_screen(product: Product, page: Page, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    sign_in(page, product)
    for path in _PAGES:
        answer = page.goto(f"{product.url}/admin/{path}")
        assert answer is not None
        assert answer.status == 200
        assert too_wide(page) == 0, path
        assert page.locator("[style]:not(.select2 *, .select2)").count() == 0, path
