"""Starting a sign-in from a page: by button, and by the link that a program was given."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.utils import timezone

from connections.models import Connection
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.models import AuthorizationRequest
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.requirements import requirement

pytestmark = pytest.mark.django_db

OWN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}
TYPED = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}


@pytest.fixture
def browser(alice: User, client: Client) -> Client:
    client.force_login(alice)
    return client


@pytest.fixture
def started(world: World, alice: User) -> AuthorizationRequest:
    return start_authorization(world.connection(alice), user=alice, now=timezone.now()).request


def test_the_connect_page_says_who_where_and_what_and_starts_nothing(browser: Client, world: World) -> None:
    world.server(scopes="notes:read")
    answer = browser.get("/connect/notes", headers={"Sec-Fetch-Site": "cross-site"})
    page = answer.content.decode()
    assert answer.status_code == 200
    for said in ("alice", "mcp.example", "Read notes", "Will be looked up"):
        assert said in page
    assert not AuthorizationRequest.objects.exists()
    assert not Connection.objects.exists()
    assert world.internet.calls == []


def test_the_connect_page_names_the_sign_in_service_that_was_found(browser: Client, world: World, alice: User) -> None:
    world.connect(alice, now=timezone.now())
    assert "Continue to as.example" in browser.get("/connect/notes").content.decode()


def test_the_button_goes_to_the_authorization_server_with_a_cookie_for_this_browser(
    browser: Client, world: World
) -> None:
    world.server()
    answer = browser.post("/connect/notes")
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("https://as.example/authorize?")
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    (cookie,) = [morsel for name, morsel in answer.cookies.items() if name.startswith("mcp_flow_")]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
    assert cookie["max-age"] <= 600


@override_settings(PUBLIC_URL="https://site.example")
def test_on_https_the_cookie_is_bound_to_this_host(browser: Client, world: World) -> None:
    world.server()
    answer = browser.post("/connect/notes", secure=True)
    (cookie,) = [morsel for name, morsel in answer.cookies.items() if name.startswith("__Host-mcp_flow_")]
    assert cookie["secure"] is True
    assert cookie["domain"] == ""


def test_the_button_needs_the_proof_that_the_form_is_ours(alice: User, world: World) -> None:
    world.server()
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    assert strict.post("/connect/notes").status_code == 403
    assert not AuthorizationRequest.objects.exists()


def test_forms_may_lead_to_any_https_login_page_but_not_elsewhere(browser: Client, world: World) -> None:
    world.server()
    assert "form-action 'self' https:;" in browser.get("/connect/notes").headers["Content-Security-Policy"] + ";"
    assert "form-action 'self';" in browser.get("/oauth/paste").headers["Content-Security-Policy"] + ";"


def test_a_label_makes_a_second_account(browser: Client, world: World, alice: User) -> None:
    world.connect(alice, now=timezone.now())
    browser.post("/connect/notes", {"label": " work "})
    assert sorted(Connection.objects.values_list("label", flat=True)) == ["", "work"]


def test_a_server_without_sign_in_is_ready_at_once(browser: Client, world: World) -> None:
    world.server(auth_type="none")
    answer = browser.post("/connect/notes")
    connection = Connection.objects.get()
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/connections/{connection.pk}")
    assert connection.status == Connection.Status.ACTIVE


def test_what_cannot_be_started_is_explained_on_the_page_with_a_way_to_try_again(browser: Client, world: World) -> None:
    world.server()
    world.mcp_server.metadata_answer = world.authorization_server.metadata_answer = Answer(500, "boom")
    answer = browser.post("/connect/notes")
    page = answer.content.decode()
    assert answer.status_code in {422, 502, 503}
    assert 'role="alert"' in page
    assert "Try again" in page
    assert "boom" not in page


@pytest.mark.parametrize("return_to", ["//evil.example", "https://evil.example/", "/\\evil", "/a\r\nX: y"])
def test_a_return_address_on_another_site_is_refused(return_to: str, browser: Client, world: World) -> None:
    world.server()
    answer = browser.post("/connect/notes", {"return_to": return_to})
    assert answer.status_code == 400
    assert 'data-code="invalid_return_to"' in answer.content.decode()


@requirement("E-06")
def test_a_link_made_for_somebody_else_is_refused(client: Client, bob: User, started: AuthorizationRequest) -> None:
    client.force_login(bob)
    for answer in (
        client.get(f"/connect/requests/{started.pk}", headers=OWN),
        client.get(f"/connect/requests/{started.pk}"),
        client.post(f"/connect/requests/{started.pk}"),
    ):
        assert answer.status_code == 403
        assert 'data-code="link_user_mismatch"' in answer.content.decode()
        assert "Notes" not in answer.content.decode()
    assert AuthorizationRequest.objects.get().browser_hash == ""


@pytest.mark.parametrize("headers", [OWN, TYPED])
def test_the_link_forwards_at_once_where_nobody_else_can_have_caused_it(
    headers: dict[str, str], browser: Client, started: AuthorizationRequest
) -> None:
    answer = browser.get(f"/connect/requests/{started.pk}", headers=headers)
    assert answer.status_code == 303
    assert parse_qs(urlsplit(answer.headers["Location"]).query)["code_challenge_method"] == ["S256"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "none", "Sec-Purpose": "prefetch;prerender"},
    ],
)
def test_otherwise_the_link_asks_for_one_button(
    headers: dict[str, str], browser: Client, started: AuthorizationRequest
) -> None:
    answer = browser.get(f"/connect/requests/{started.pk}", headers=headers)
    assert answer.status_code == 200
    assert "Continue to as.example" in answer.content.decode()
    assert AuthorizationRequest.objects.get().browser_hash == ""
    assert browser.post(f"/connect/requests/{started.pk}").status_code == 303


def test_after_signing_in_the_way_goes_on_by_a_link_of_our_own(
    client: Client, alice: User, started: AuthorizationRequest
) -> None:
    there = client.get(f"/connect/requests/{started.pk}", headers=TYPED)
    assert there.headers["Location"] == f"/accounts/login/?next=/connect/requests/{started.pk}%3Fsigned-in"
    client.force_login(alice)
    page = client.get(f"/connect/requests/{started.pk}?signed-in", headers=OWN)
    assert page.status_code == 200
    assert f'href="/connect/requests/{started.pk}" data-follow' in page.content.decode()
    assert "data-follow" not in client.get(f"/connect/requests/{started.pk}?signed-in").content.decode()


def test_a_link_that_is_used_or_late_says_so(browser: Client, started: AuthorizationRequest) -> None:
    AuthorizationRequest.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    for answer in (
        browser.get(f"/connect/requests/{started.pk}"),
        browser.post(f"/connect/requests/{started.pk}"),
    ):
        assert answer.status_code == 400
        assert 'data-code="state_expired"' in answer.content.decode()
    AuthorizationRequest.objects.update(
        expires_at=timezone.now() + timedelta(minutes=5), consumed_at=timezone.now(), status="completed"
    )
    answer = browser.get(f"/connect/requests/{started.pk}")
    assert 'data-code="state_used"' in answer.content.decode()


def test_looking_ahead_does_not_bind_a_browser(browser: Client, started: AuthorizationRequest) -> None:
    assert browser.head(f"/connect/requests/{started.pk}", headers=TYPED).status_code == 405
    assert AuthorizationRequest.objects.get().browser_hash == ""


def test_an_unknown_link_is_not_found(browser: Client) -> None:
    assert browser.get(f"/connect/requests/{uuid4()}", headers=OWN).status_code == 404
