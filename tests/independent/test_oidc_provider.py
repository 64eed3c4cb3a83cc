"""An authorization server of other people, a real browser, and each way of being known to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from tests.end_to_end.programs import Program
from tests.product import Product, running_product
from tests.requirements import requirement

from .upstream import CLIENT, METADATA_URL, Upstream, running_upstream

TOKEN_SECONDS = 4

pytestmark = [pytest.mark.independent, pytest.mark.browser]


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running_product(tmp_path_factory.mktemp("product"), CLIENT_METADATA_URL=METADATA_URL) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("upstream")


@pytest.fixture(scope="module")
def upstream(folder: Path, product: Product) -> Iterator[Upstream]:
    with running_upstream(folder, product=product, access_token_seconds=TOKEN_SECONDS) as running:
        yield running


@pytest.fixture(scope="module")
def administrator(product: Product) -> Program:
    return Program.of(product, "admin")


@pytest.fixture(scope="module")
def program(product: Product) -> Program:
    return Program.of(product, "alice")


@requirement("R-02")
@pytest.mark.parametrize("registration", ["dynamic", "metadata_document", "pre_registered"])
def test_a_person_connects_once_and_the_connection_lives_until_it_is_ended(
    product: Product, upstream: Upstream, administrator: Program, program: Program, page: Page, registration: str
) -> None:
    slug = administrator.configure(upstream.notes_url, registration=registration, **_client_of(registration))
    connect(page, product, slug=slug)
    connection = connection_to(program, slug)
    assert (connection["status"], connection["registration_method"]) == ("active", registration)
    assert connection["issuer"] == upstream.issuer

    note = program.note(connection["id"], "Hello")
    assert note.json()["structuredContent"]["title"] == "Hello", note.text
    profile = program.call(connection["id"], "get_user_profile").json()["structuredContent"]
    assert (profile["client_id"] == METADATA_URL) is (registration == "metadata_document")

    program.wait_until_expired(connection["id"])
    assert program.note(connection["id"], "Again").status_code == 200
    # The refresh token that was used before would end the grant: each refresh has kept the newest.
    for _ in range(2):
        assert program.post(f"connections/{connection['id']}/refresh").status_code == 200

    token = program.post(f"connections/{connection['id']}/token").json()["access_token"]
    assert upstream.is_active(token)
    assert program.post(f"connections/{connection['id']}/revoke", reason="done").status_code == 200
    assert not upstream.is_active(token)
    assert program.note(connection["id"], "After the end").status_code == 409


def test_a_grant_that_is_taken_back_there_needs_one_click(
    product: Product, upstream: Upstream, administrator: Program, program: Program, page: Page
) -> None:
    slug = administrator.configure(upstream.notes_url, **_client_of("pre_registered"))
    connect(page, product, slug=slug)
    connection = connection_to(program, slug)["id"]
    upstream.revoke(program.post(f"connections/{connection}/token").json()["access_token"])
    refused = program.note(connection, "After the end")
    assert (refused.status_code, refused.json()["error"]) == (409, "authorization_required")

    page.goto(refused.json()["authorization_url"])
    agree(page)
    expect(page.get_by_text("Connected").first).to_be_visible()
    assert program.note(connection, "Back").status_code == 200


def test_a_person_who_says_no_there_is_told_so_and_may_try_again(
    product: Product, upstream: Upstream, administrator: Program, program: Program, page: Page
) -> None:
    slug = administrator.configure(upstream.notes_url)
    sign_in(page, product, slug=slug)
    page.get_by_role("link", name="Cancel").click()
    expect(page).to_have_url(re.compile(rf"^{product.url}/connections/result/[0-9a-f-]+$"))
    assert connection_to(program, slug)["status"] == "pending"

    page.get_by_role("button", name="Try again").click()
    agree(page)
    expect(page.get_by_text("Connected").first).to_be_visible()
    assert connection_to(program, slug)["status"] == "active"


def connect(page: Page, product: Product, *, slug: str) -> None:
    """Sign in here and there, and allow."""
    sign_in(page, product, slug=slug)
    agree(page)
    expect(page.get_by_text("Connected").first).to_be_visible()


def sign_in(page: Page, product: Product, *, slug: str) -> None:
    """Sign in here, follow the link that an administrator hands out, and sign in there."""
    page.route("**/*", _only_this_machine)
    page.goto(f"{product.url}/connect/{slug}")
    page.get_by_label("User name").or_(page.get_by_label("Username")).fill("alice")
    page.get_by_label("Password").fill(product.password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Continue").or_(page.get_by_role("button", name="Connect")).first.click()
    page.get_by_placeholder("Enter any login").fill("testuser")
    page.get_by_placeholder("and password").fill("any")
    page.get_by_role("button", name="Sign-in").click()


def agree(page: Page) -> None:
    page.get_by_role("button", name="Continue").click()


def connection_to(program: Program, slug: str) -> dict[str, str]:
    listed: list[dict[str, str]] = program.get("connections").json()["results"]
    return next(entry for entry in listed if entry["server"] == slug)


def _client_of(registration: str) -> dict[str, str]:
    return {"client_id": CLIENT[0], "client_secret": CLIENT[1]} if registration == "pre_registered" else {}


def _only_this_machine(route: Route) -> None:
    """Its login page wants fonts from elsewhere."""
    if urlsplit(route.request.url).hostname in ("localhost", "127.0.0.1"):
        route.continue_()
    else:
        route.abort()
