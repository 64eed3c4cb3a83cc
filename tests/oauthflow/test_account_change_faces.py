"""How people and programs decide which account of a service a connection uses. Security note S15."""

from __future__ import annotations

import io
import sys
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from connections.models import Connection, McpServer, TokenSet
from connections.models.api_token import ApiScope
from connections.services import shared_connection
from oauthflow.models import AuthorizationRequest
from tests.fakes.world import World
from tests.rest_clients import with_token

from .graphql_client import api_token, ask

CALLBACK = "/api/v1/oauth/callback"
_COMPLETE = "/api/v1/oauth/complete"
_FLOW = """query($state: String!) { getMCPOAuthStatus(input: {stateParameter: $state}) {
    success status completedAt authErrorCode authErrorDescription isRetryable } }"""


@pytest.fixture
def connected(world: World, alice: User) -> Connection:
    world.authorization_server.subject = "first"
    connection = world.connect(alice, now=timezone.now())
    world.authorization_server.subject = "second"
    return connection


@pytest.fixture
def browser(alice: User, client: Client) -> Client:
    client.force_login(alice)
    return client


@pytest.fixture
def program(alice: User) -> APIClient:
    return with_token(alice, ApiScope.CONNECTIONS_READ, ApiScope.CONNECTIONS_WRITE)


def reconnect(world: World, browser: Client, **form: str) -> str:
    """Press the button, sign in as the other account, come back: the address at which the browser ends."""
    away = browser.post("/connect/notes", form).headers["Location"]
    params = dict(parse_qsl(urlsplit(world.authorization_server.authorize(away)).query))
    answer = browser.get(CALLBACK, params)
    assert answer.status_code == 303
    return answer.headers["Location"]


def by_hand(world: World, program: APIClient) -> dict[str, str]:
    """Start by hand and sign in as the other account: the body that finishes it."""
    started = program.post("/api/v1/oauth/initiate", {"server": "notes", "manual": True}).json()
    redirect = world.authorization_server.authorize(started["authorization_url"])
    return {"state": started["state"], "redirect_url": redirect}


def test_the_page_says_what_happened_and_asks(world: World, browser: Client, connected: Connection) -> None:
    where = reconnect(world, browser, return_to="/connections/?view=all")
    ended = AuthorizationRequest.objects.get(status="pending")
    page = browser.get(where).content.decode()
    assert where == f"/connections/result/{ended.pk}"
    assert 'data-code="account_changed"' in page
    assert "another account than before" in page
    assert "Use the new account" in page
    assert "Keep the old one" in page
    assert "the old account goes on working" in page
    assert "data-poll" not in page
    assert "second" not in page
    assert TokenSet.objects.get().generation == 1


@pytest.mark.parametrize(
    ("account", "outcome", "generation"), [("new", "success", 2), ("old", "error&error=account_changed", 1)]
)
def test_the_answer_is_taken_and_leads_to_where_the_sign_in_was_to_end(
    world: World, browser: Client, connected: Connection, account: str, outcome: str, generation: int
) -> None:
    where = reconnect(world, browser, return_to="/connections/?view=all")
    answer = browser.post(f"{where}/account", {"account": account})
    name, _, rest = outcome.partition("&")
    told = "&".join(part for part in (f"oauth={name}", f"connection={connected.pk}", rest) if part)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/connections/?view=all&{told}")
    assert TokenSet.objects.get().generation == generation


@pytest.mark.parametrize(("account", "said"), [("new", "Notes is connected"), ("old", "The old account stays")])
def test_without_such_a_place_the_result_says_which_account_is_used(
    world: World, browser: Client, connected: Connection, account: str, said: str
) -> None:
    where = reconnect(world, browser)
    assert said in browser.post(f"{where}/account", {"account": account}, follow=True).content.decode()
    page = browser.get(where).content.decode()
    assert "Use the new account" not in page
    assert said in page


@pytest.mark.parametrize("account", ["", "both", "NEW"])
def test_no_answer_is_assumed(world: World, browser: Client, connected: Connection, account: str) -> None:
    where = reconnect(world, browser)
    assert browser.post(f"{where}/account", {"account": account}).status_code == 400
    assert AuthorizationRequest.objects.filter(status="pending", error_code="account_changed").count() == 1


def test_an_answer_is_taken_once_and_in_time(world: World, browser: Client, connected: Connection) -> None:
    late, where = reconnect(world, browser), reconnect(world, browser)
    AuthorizationRequest.objects.filter(pk=late.rpartition("/")[2]).update(expires_at=timezone.now())
    browser.post(f"{where}/account", {"account": "old"})
    for address, code in ((where, "state_used"), (late, "state_expired")):
        answer = browser.post(f"{address}/account", {"account": "new"})
        assert answer.status_code == 400
        assert f'data-code="{code}"' in answer.content.decode()
    assert TokenSet.objects.get().generation == 1


def test_only_a_form_of_ours_sent_by_the_same_person_decides(
    world: World, browser: Client, connected: Connection, alice: User, bob: User
) -> None:
    where = f"{reconnect(world, browser)}/account"
    other, careful = Client(), Client(enforce_csrf_checks=True)
    other.force_login(bob)
    careful.force_login(alice)
    assert other.post(where, {"account": "new"}).status_code == 404
    assert other.post(f"/connections/result/{uuid4()}/account", {"account": "new"}).status_code == 404
    assert Client().post(where, {"account": "new"}).headers["Location"].startswith("/accounts/login/")
    assert careful.post(where, {"account": "new"}).status_code == 403
    for method in (browser.get, browser.head, browser.put, browser.delete):
        assert method(where).status_code == 405
    assert TokenSet.objects.get().generation == 1


def test_a_shared_connection_says_that_everybody_is_concerned(
    world: World, administrator: User, client: Client
) -> None:
    shared_connection(world.server(connection_policy=McpServer.ConnectionPolicy.SHARED))
    client.force_login(administrator)
    world.authorization_server.subject = "first"
    reconnect(world, client)
    world.authorization_server.subject = "second"
    assert "everybody who uses it" in client.get(reconnect(world, client)).content.decode()


def test_a_link_whose_sign_in_came_back_is_used(world: World, browser: Client, connected: Connection) -> None:
    waiting = reconnect(world, browser).rpartition("/")[2]
    assert 'data-code="state_used"' in browser.get(f"/connect/requests/{waiting}").content.decode()


def test_a_pasted_address_of_another_account_ends_at_the_same_question(
    world: World, browser: Client, connected: Connection, program: APIClient
) -> None:
    answer = browser.post("/oauth/paste", {"pasted": by_hand(world, program)["redirect_url"]})
    assert "Use the new account" in browser.get(answer.headers["Location"]).content.decode()


@pytest.mark.parametrize(
    ("confirmed", "status", "code", "generation"), [(True, "completed", "", 2), (False, "failed", "account_changed", 1)]
)
def test_a_program_is_told_and_decides_by_a_second_call(
    world: World,
    program: APIClient,
    connected: Connection,
    confirmed: bool,
    status: str,
    code: str,
    generation: int,
) -> None:
    body = by_hand(world, program)
    answer = program.post(_COMPLETE, body)
    polled = program.get(f"/api/v1/oauth/status/{body['state']}").json()
    assert (answer.status_code, answer.json()["error"]) == (409, "account_changed")
    assert (answer.json()["retryable"], answer.json()["requires_reauthorization"]) == (False, False)
    assert (polled["status"], polled["error_code"], polled["completed_at"]) == ("pending", "account_changed", None)

    decided = program.post(_COMPLETE, {"state": body["state"], "confirm_account": confirmed})

    assert decided.status_code == 200
    assert (decided.json()["status"], decided.json()["error_code"]) == (status, code)
    assert decided.json() == program.get(f"/api/v1/oauth/status/{body['state']}").json()
    assert TokenSet.objects.get().generation == generation
    again = program.post(_COMPLETE, {"state": body["state"], "confirm_account": True})
    assert (again.status_code, again.json()["error"]) == (400, "state_used")


def test_nobody_elses_program_decides_and_learns_nothing(
    world: World, program: APIClient, connected: Connection, bob: User
) -> None:
    body = by_hand(world, program)
    program.post(_COMPLETE, body)
    stranger = with_token(bob)
    answers = [
        stranger.post(_COMPLETE, {"state": state, "confirm_account": True}) for state in (body["state"], "x" * 43)
    ]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert [{**answer.json(), "correlation_id": ""} for answer in answers][0] == {
        **answers[1].json(), "correlation_id": "",
    }  # fmt: skip
    assert TokenSet.objects.get().generation == 1


def test_what_a_browser_brought_back_is_not_decided_by_a_program(
    world: World, program: APIClient, browser: Client, connected: Connection
) -> None:
    started = program.post("/api/v1/oauth/initiate", {"server": "notes"}).json()
    away = browser.post(urlsplit(started["authorization_url"]).path).headers["Location"]
    back = urlsplit(world.authorization_server.authorize(away))
    where = browser.get(f"{CALLBACK}?{back.query}").headers["Location"]
    answer = program.post(_COMPLETE, {"state": started["state"], "confirm_account": True})
    assert (answer.status_code, answer.json()["error"]) == (403, "flow_session_mismatch")
    assert TokenSet.objects.get().generation == 1
    assert browser.post(f"{where}/account", {"account": "new"}).status_code == 303
    assert program.get(f"/api/v1/oauth/status/{started['state']}").json()["status"] == "completed"


@pytest.mark.parametrize(
    "more", [{"code": "c"}, {"redirect_url": "http://localhost:8000/?code=c"}, {"iss": "https://as.example"}]
)
def test_a_decision_comes_alone(program: APIClient, more: dict[str, Any]) -> None:
    answer = program.post(_COMPLETE, {"state": "x" * 43, "confirm_account": True, **more})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("word", [None, "perhaps", [], 2])
def test_a_decision_is_yes_or_no(program: APIClient, word: object) -> None:
    answer = program.post(_COMPLETE, {"state": "x" * 43, "confirm_account": word})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert "confirm_account" in answer.json()["fields"]


def test_graphql_says_that_it_is_pending_and_why(
    world: World, program: APIClient, connected: Connection, alice: User
) -> None:
    body = by_hand(world, program)
    program.post(_COMPLETE, body)
    token = api_token(alice, ApiScope.CONNECTIONS_READ)
    said = ask(_FLOW, token=token, state=body["state"]).data["getMCPOAuthStatus"]
    assert (said["success"], said["status"], said["completedAt"]) == (True, "PENDING", None)
    assert (said["authErrorCode"], said["isRetryable"]) == ("account_changed", False)
    assert "Another account" in said["authErrorDescription"]
    program.post(_COMPLETE, {"state": body["state"], "confirm_account": True})
    said = ask(_FLOW, token=token, state=body["state"]).data["getMCPOAuthStatus"]
    assert (said["status"], said["authErrorCode"]) == ("COMPLETED", None)


def test_an_attempt_that_nobody_decided_is_expired(world: World, program: APIClient, connected: Connection) -> None:
    body = by_hand(world, program)
    program.post(_COMPLETE, body)
    AuthorizationRequest.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert program.get(f"/api/v1/oauth/status/{body['state']}").json()["status"] == "expired"
    answer = program.post(_COMPLETE, {"state": body["state"], "confirm_account": True})
    assert (answer.status_code, answer.json()["error"]) == (400, "state_expired")


@pytest.mark.parametrize(("answer", "generation"), [("y\n", 2), ("n\n", 1), ("\n", 1), ("", 1)])
def test_a_terminal_is_asked_too(
    world: World, connected: Connection, monkeypatch: pytest.MonkeyPatch, answer: str, generation: int
) -> None:
    output = io.StringIO()

    class Terminal(io.StringIO):
        """Pastes the address that the printed link leads to, then answers."""

        asked = 0

        def readline(self, size: int | None = -1, /) -> str:
            self.asked += 1
            if self.asked > 1:
                return answer
            link = next(word for word in output.getvalue().split() if word.startswith("https://as.example/"))
            return world.authorization_server.authorize(link)

    monkeypatch.setattr(sys, "stdin", Terminal())
    words = ("connect", "notes", "--user", "alice", "--no-browser")
    if generation == 2:
        call_command(*words, stdout=output)
        assert "Connected to Notes" in output.getvalue()
    else:
        with pytest.raises(CommandError, match="The old account stays"):
            call_command(*words, stdout=output)
    assert "Use the new account from now on?" in output.getvalue()
    assert TokenSet.objects.get().generation == generation
