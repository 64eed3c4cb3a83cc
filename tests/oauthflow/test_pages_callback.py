"""Coming back: the callback, the result in words, and the pasted form."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from audit.events import AuditEvent
from audit.models import AuditRecord
from connections.models import Connection, TokenSet
from oauthflow.flows.start_authorization import StartedAuthorization, start_authorization
from oauthflow.models import AuthorizationRequest
from tests.fakes.world import World
from tests.requirements import requirement

pytestmark = pytest.mark.django_db

CALLBACK = "/api/v1/oauth/callback"


@pytest.fixture
def browser(alice: User, client: Client) -> Client:
    client.force_login(alice)
    return client


@pytest.fixture
def come_back(browser: Client, world: World) -> Callable[..., dict[str, str]]:
    """Press the button, agree at the authorization server, and return the callback's parameters."""

    def come_back(**form: str) -> dict[str, str]:
        world.server()
        away = browser.post("/connect/notes", form).headers["Location"]
        return dict(parse_qsl(urlsplit(world.authorization_server.authorize(away)).query))

    return come_back


def _manual(world: World, user: User) -> StartedAuthorization:
    return start_authorization(world.connection(user), user=user, now=timezone.now(), manual=True)


def _agreed(world: World, started: StartedAuthorization) -> str:
    return world.authorization_server.authorize(started.authorization_url)


def test_a_finished_sign_in_ends_on_a_clean_address_that_says_so(
    browser: Client, come_back: Callable[..., dict[str, str]]
) -> None:
    answer = browser.get(CALLBACK, come_back())
    ended = AuthorizationRequest.objects.get()
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/connections/result/{ended.pk}")
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "no-store" in answer.headers["Cache-Control"]
    page = browser.get(answer.headers["Location"]).content.decode()
    assert "Notes is connected" in page
    assert 'data-status="completed"' in page


def test_a_return_address_is_told_how_it_went(browser: Client, come_back: Callable[..., dict[str, str]]) -> None:
    params = come_back(return_to="/connections/?view=all")
    answer = browser.get(CALLBACK, params)
    connection = Connection.objects.get()
    assert answer.headers["Location"] == f"/connections/?view=all&oauth=success&connection={connection.pk}"


def test_a_return_address_is_told_of_a_refusal(
    browser: Client, world: World, come_back: Callable[..., dict[str, str]]
) -> None:
    world.authorization_server.denies_with = "access_denied"
    answer = browser.get(CALLBACK, come_back(return_to="/connections/"))
    told = dict(parse_qsl(urlsplit(answer.headers["Location"]).query))
    assert told == {"oauth": "error", "connection": str(Connection.objects.get().pk), "error": "access_denied"}


@requirement("A-15")
def test_a_refusal_is_told_in_our_words_and_what_worked_goes_on_working(
    browser: Client, world: World, come_back: Callable[..., dict[str, str]], alice: User
) -> None:
    world.connect(alice, now=timezone.now())
    world.authorization_server.denies_with = "access_denied"
    hostile = {"error_description": "<script>alert(1)</script>", "error_uri": "javascript:alert(1)"}
    page = browser.get(CALLBACK, come_back() | hostile, follow=True).content.decode()
    assert 'data-code="access_denied"' in page
    assert "goes on working" in page
    assert "alert(1)" not in page
    assert Connection.objects.get().status == Connection.Status.ACTIVE


@pytest.mark.parametrize("name", ["code", "state", "iss", "error"])
def test_a_repeated_parameter_is_refused_before_anything_is_looked_at(
    name: str, browser: Client, world: World, come_back: Callable[..., dict[str, str]]
) -> None:
    params = come_back() | ({"error": "access_denied"} if name == "error" else {})
    answer = browser.get(f"{CALLBACK}?{urlencode([*params.items(), (name, params[name])])}")
    assert answer.status_code == 400
    assert 'data-code="duplicate_parameter"' in answer.content.decode()
    assert world.authorization_server.token_requests == []
    assert AuthorizationRequest.objects.get().consumed_at is None
    assert AuditRecord.objects.filter(event=AuditEvent.CALLBACK_REJECTED, reason="duplicate_parameter").count() == 1


@pytest.mark.parametrize("state", ["", "short", "x" * 513, "ä" * 43, "z" * 43])
def test_a_state_that_nobody_started_is_refused(state: str, browser: Client) -> None:
    answer = browser.get(CALLBACK, {"code": "c", "state": state})
    assert answer.status_code == 400
    assert 'data-code="state_mismatch"' in answer.content.decode()


def test_looking_ahead_consumes_nothing(browser: Client, come_back: Callable[..., dict[str, str]]) -> None:
    params = come_back()
    for method in (browser.head, browser.options, browser.post, browser.put):
        assert method(f"{CALLBACK}?{urlencode(params)}").status_code == 405
    assert browser.get(CALLBACK, params).status_code == 303


def test_an_answer_is_taken_once(browser: Client, come_back: Callable[..., dict[str, str]]) -> None:
    params = come_back()
    browser.get(CALLBACK, params)
    before = TokenSet.objects.get().generation
    answer = browser.get(CALLBACK, params)
    assert answer.status_code == 400
    assert 'data-code="state_used"' in answer.content.decode()
    assert TokenSet.objects.get().generation == before


@requirement("E-07")
@pytest.mark.parametrize("who", ["nobody", "bob", "alice"])
def test_another_browser_or_person_cannot_finish(
    who: str, bob: User, alice: User, world: World, come_back: Callable[..., dict[str, str]]
) -> None:
    params = come_back()
    other = Client()
    if who != "nobody":
        other.force_login({"bob": bob, "alice": alice}[who])
    answer = other.get(CALLBACK, params)
    page = answer.content.decode()
    assert answer.status_code == 403
    assert 'data-code="flow_session_mismatch"' in page
    assert "Start again" in page
    assert params["code"] not in page
    assert params["state"] not in page
    assert "<form" not in page
    assert world.authorization_server.token_requests == []
    assert not TokenSet.objects.exists()


def test_the_result_is_for_the_person_who_started_it(
    browser: Client, bob: User, come_back: Callable[..., dict[str, str]]
) -> None:
    where = browser.get(CALLBACK, come_back()).headers["Location"]
    other = Client()
    other.force_login(bob)
    assert other.get(where).status_code == other.get(f"/connections/result/{uuid4()}").status_code == 404


def test_a_result_that_is_not_there_yet_waits_and_a_late_one_can_be_tried_again(
    browser: Client, come_back: Callable[..., dict[str, str]]
) -> None:
    come_back()
    where = f"/connections/result/{AuthorizationRequest.objects.get().pk}"
    page = browser.get(where).content.decode()
    assert 'data-status="pending"' in page
    assert 'http-equiv="refresh"' not in page
    AuthorizationRequest.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    page = browser.get(where).content.decode()
    assert 'data-code="authorization_timeout"' in page
    assert f"/connections/{Connection.objects.get().pk}/reconnect" in page


@pytest.mark.parametrize("signed_in", [True, False])
def test_an_address_that_a_terminal_waits_for_is_not_used_up(
    signed_in: bool, world: World, alice: User, bob: User
) -> None:
    back = _agreed(world, _manual(world, alice))
    other = Client()
    if signed_in:
        other.force_login(bob)
    answer = other.get(f"{CALLBACK}?{urlsplit(back).query}")
    assert answer.status_code == 200
    assert "Copy the address of this page" in answer.content.decode()
    assert AuthorizationRequest.objects.get().consumed_at is None


def test_the_whole_address_can_be_pasted(browser: Client, world: World, alice: User) -> None:
    back = _agreed(world, _manual(world, alice))
    assert "Notes" in browser.get("/oauth/paste").content.decode()
    answer = browser.post("/oauth/paste", {"pasted": f"  {back}\n"})
    assert answer.headers["Location"] == f"/connections/result/{AuthorizationRequest.objects.get().pk}"
    assert Connection.objects.get().status == Connection.Status.ACTIVE


def test_a_code_alone_belongs_to_the_one_request_that_waits(browser: Client, world: World, alice: User) -> None:
    world.authorization_server.promises_iss = False
    back = dict(parse_qsl(urlsplit(_agreed(world, _manual(world, alice))).query))
    assert browser.post("/oauth/paste", {"pasted": back["code"]}).status_code == 303
    assert Connection.objects.get().status == Connection.Status.ACTIVE


def test_a_code_alone_ends_nothing_where_the_service_names_itself_beside_it(
    browser: Client, world: World, alice: User
) -> None:
    back = _agreed(world, _manual(world, alice))
    code = dict(parse_qsl(urlsplit(back).query))["code"]
    assert browser.post("/oauth/paste", {"pasted": code}).status_code == 400
    assert browser.post("/oauth/paste", {"pasted": back}).status_code == 303
    assert Connection.objects.get().status == Connection.Status.ACTIVE


def test_a_code_alone_needs_a_choice_where_several_wait(browser: Client, world: World, alice: User) -> None:
    world.authorization_server.promises_iss = False
    first, second = _manual(world, alice), _manual(world, alice)
    code = dict(parse_qsl(urlsplit(_agreed(world, second)).query))["code"]
    assert browser.post("/oauth/paste", {"pasted": code}).status_code == 400
    assert str(first.request.pk) in browser.get("/oauth/paste").content.decode()
    assert browser.post("/oauth/paste", {"pasted": code, "request": str(second.request.pk)}).status_code == 303


@pytest.mark.parametrize(
    "pasted", ["", "hello there", "https://x.example/?code=1&code=2", "code=abc&state=" + "z" * 43]
)
def test_what_cannot_be_used_is_refused_and_not_repeated(pasted: str, browser: Client) -> None:
    answer = browser.post("/oauth/paste", {"pasted": pasted})
    assert answer.status_code == 400
    assert 'role="alert"' in answer.content.decode()
    assert not pasted or pasted not in answer.content.decode()


def test_the_request_of_another_person_cannot_be_pasted(browser: Client, world: World, bob: User) -> None:
    back = _agreed(world, _manual(world, bob))
    answer = browser.post("/oauth/paste", {"pasted": back})
    assert answer.status_code == 403
    assert 'data-code="flow_session_mismatch"' in answer.content.decode()
    assert not TokenSet.objects.exists()
