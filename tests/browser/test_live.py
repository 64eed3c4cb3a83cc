"""My connections shows what happens elsewhere while somebody looks at it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.product import Product, running_product

pytestmark = pytest.mark.browser

_CONNECTED = """
from django.contrib.auth.models import User
from connections.models import Connection, McpServer
server, _ = McpServer.objects.get_or_create(
    slug="notes", defaults={"name": "Notes", "url": "https://notes.example.com/mcp", "auth_type": "oauth"}
)
user = User.objects.get(username="alice")
Connection.objects.update_or_create(server=server, user=user, label="", defaults={"status": "active", "reason": ""})
"""
_ENDED = """
from connections.models import Connection
from connections.services import require_reauthorization
require_reauthorization(Connection.objects.get(), reason="invalid_grant")
"""


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running_product(tmp_path_factory.mktemp("live")) as running:
        yield running


@pytest.fixture
def overview(product: Product, page: Page) -> Page:
    """Alice looks at her one connection, which works; the page remembers that it was never loaded again."""
    product.run(_CONNECTED)
    page.goto(f"{product.url}/connections/")
    page.get_by_label("User name").or_(page.get_by_label("Username")).fill("alice")
    page.get_by_label("Password").fill(product.password)
    with page.expect_response(lambda answer: "/api/v1/events" in answer.url) as stream:
        page.get_by_role("button", name="Sign in").click()
    assert stream.value.status == 200
    expect(page.get_by_text("1 connected")).to_be_visible()
    page.evaluate("window.neverLoadedAgain = true")
    return page


def the_card(page: Page) -> object:
    return page.get_by_role("article", name="Notes")


def test_a_change_of_state_arrives_without_a_reload(product: Product, overview: Page) -> None:
    expect(the_card(overview).get_by_text("Connected", exact=True)).to_be_visible()
    product.run(_ENDED)
    expect(the_card(overview).get_by_text("Reconnect needed")).to_be_visible()
    expect(the_card(overview).get_by_role("button", name="Reconnect")).to_be_visible()
    expect(overview.get_by_text("1 needs your attention")).to_be_visible()
    assert overview.evaluate("window.neverLoadedAgain")


def test_what_somebody_is_busy_with_is_left_alone_until_they_are_done(product: Product, overview: Page) -> None:
    question = the_card(overview).locator("summary", has_text="Disconnect")
    question.click()
    product.run(_ENDED)
    expect(overview.get_by_text("1 needs your attention")).to_be_visible()
    expect(the_card(overview).get_by_text("Connected", exact=True)).to_be_visible()
    question.click()
    expect(the_card(overview).get_by_text("Reconnect needed")).to_be_visible()
    assert overview.evaluate("window.neverLoadedAgain")


def test_a_page_that_was_renewed_still_works(product: Product, overview: Page) -> None:
    product.run(_ENDED)
    expect(the_card(overview).get_by_text("Reconnect needed")).to_be_visible()
    the_card(overview).locator("summary", has_text="Disconnect").click()
    the_card(overview).get_by_role("button", name="Disconnect").click()
    expect(overview.get_by_text("Disconnected").first).to_be_visible()


def test_what_a_page_hears_is_what_its_user_may_see(product: Product, overview: Page) -> None:
    token = product.api_token("admin", "connections:read")
    product.run(_ENDED)
    expect(overview.get_by_text("1 needs your attention")).to_be_visible()
    heard = requests.get(f"{product.url}/api/v1/events", headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert json.loads(heard.text)["events"] == []
