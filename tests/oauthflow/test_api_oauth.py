"""The flow over REST: start, poll, finish by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.test import APIClient

from audit.models import AuditRecord
from connections.models import Connection, McpServer
from connections.models.api_token import ApiScope
from connections.services import shared_connection
from oauthflow.models import AuthorizationRequest
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.requirements import requirement
from tests.rest_clients import in_browser, with_token

pytestmark = pytest.mark.django_db

_INITIATE = "/api/v1/oauth/initiate"
_COMPLETE = "/api/v1/oauth/complete"


@pytest.fixture
def program(alice: User) -> APIClient:
    return with_token(alice, ApiScope.CONNECTIONS_READ, ApiScope.CONNECTIONS_WRITE)


def _error(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


def _status(client: APIClient, state: str) -> Any:
    return client.get(f"/api/v1/oauth/status/{state}")


def _manual(world: World, program: APIClient) -> tuple[dict[str, Any], str]:
    """Start by hand and agree at the authorization server: the answer to the start, and the redirect address."""
    world.server("notes")
    started = program.post(_INITIATE, {"server": "notes", "manual": True}).json()
    return started, world.authorization_server.authorize(started["authorization_url"])


def test_an_authorization_starts_with_a_link_on_our_own_site(world: World, alice: User, program: APIClient) -> None:
    connection = world.connection(alice)
    answer = program.post(_INITIATE, {"connection_id": str(connection.pk)})
    pending = AuthorizationRequest.objects.get()
    assert answer.status_code == 200
    assert set(answer.json()) == {
        "authorization_url", "state", "expires_at", "used_dynamic_registration", "registration_method",
    }  # fmt: skip
    assert answer.json()["authorization_url"] == f"http://localhost:8000/connect/requests/{pending.pk}"
    assert answer.json()["used_dynamic_registration"] is True
    assert answer.json()["registration_method"] == "dynamic"


def test_naming_the_server_makes_the_callers_own_connection(world: World, alice: User, program: APIClient) -> None:
    world.server("notes")
    assert program.post(_INITIATE, {"server": "notes"}).status_code == 200
    assert Connection.objects.get().user == alice


@pytest.mark.parametrize(
    "body", [{}, {"server": "notes", "connection_id": "x"}, {"connection_id": "1"}, {"server": ""}]
)
def test_an_authorization_needs_exactly_one_connection_or_server(
    world: World, program: APIClient, body: dict[str, Any]
) -> None:
    world.server("notes")
    assert _error(program.post(_INITIATE, body)) == (400, "invalid_request")


@pytest.mark.parametrize("return_to", ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example"])
def test_a_return_address_elsewhere_is_refused_before_anything_is_sent(
    world: World, program: APIClient, return_to: str
) -> None:
    world.server("notes")
    answer = program.post(_INITIATE, {"server": "notes", "return_to": return_to})
    assert _error(answer) == (400, "invalid_return_to")
    assert world.internet.calls == []


def test_a_shared_connection_is_connected_only_by_who_manages_it(
    world: World, alice: User, administrator: User
) -> None:
    shared = shared_connection(world.server("team", connection_policy=McpServer.ConnectionPolicy.SHARED))
    body = {"connection_id": str(shared.pk)}
    for wanted in (body, {"server": "team"}):
        assert _error(in_browser(alice).post(_INITIATE, wanted)) == (403, "permission_denied")
    assert in_browser(administrator).post(_INITIATE, body).status_code == 200


def test_a_server_without_metadata_is_told_in_our_words_only(world: World, program: APIClient) -> None:
    world.server("notes")
    world.authorization_server.metadata_answer = Answer(500, "<html>stack trace of theirs</html>")
    answer = program.post(_INITIATE, {"server": "notes"})
    assert answer.status_code in {422, 502, 503}
    assert "theirs" not in answer.content.decode()
    assert "as.example" not in answer.content.decode()


def test_the_owner_sees_how_it_goes_from_pending_to_completed(world: World, program: APIClient) -> None:
    started, redirect = _manual(world, program)
    assert _status(program, started["state"]).json()["status"] == "pending"
    finished = program.post(_COMPLETE, {"state": started["state"], "redirect_url": redirect})
    polled = _status(program, started["state"])
    assert (finished.status_code, polled.status_code) == (200, 200)
    assert finished.json() == polled.json()
    assert polled.json()["completed_at"] is not None
    assert {name: polled.json()[name] for name in ("status", "error_code", "error_message", "is_retryable")} == {
        "status": "completed", "error_code": "", "error_message": "", "is_retryable": False,
    }  # fmt: skip
    assert Connection.objects.get().status == "active"


def test_code_and_iss_do_as_well_as_the_whole_address(world: World, program: APIClient) -> None:
    started, redirect = _manual(world, program)
    back = dict(parse_qsl(urlsplit(redirect).query))
    answer = program.post(_COMPLETE, {"state": started["state"], "code": back["code"], "iss": back["iss"]})
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")


@requirement("A-13", "A-14")
def test_a_wrong_issuer_is_refused_before_the_token_endpoint_is_called(world: World, program: APIClient) -> None:
    started, redirect = _manual(world, program)
    code = dict(parse_qsl(urlsplit(redirect).query))["code"]
    answer = program.post(_COMPLETE, {"state": started["state"], "code": code, "iss": "https://as.example/"})
    assert _error(answer) == (400, "issuer_mismatch")
    assert world.authorization_server.token_requests == []


def test_a_redirect_address_with_another_state_is_refused_and_burns_nothing(world: World, program: APIClient) -> None:
    first, _ = _manual(world, program)
    second, redirect = _manual(world, program)
    assert _error(program.post(_COMPLETE, {"state": first["state"], "redirect_url": redirect})) == (
        400,
        "state_mismatch",
    )
    answer = program.post(_COMPLETE, {"state": second["state"], "redirect_url": redirect})
    assert answer.json()["status"] == "completed"


def test_a_used_state_is_refused_and_the_connection_stays(world: World, program: APIClient) -> None:
    started, redirect = _manual(world, program)
    body = {"state": started["state"], "redirect_url": redirect}
    program.post(_COMPLETE, body)
    assert _error(program.post(_COMPLETE, body)) == (400, "state_used")
    assert Connection.objects.get().status == "active"
    assert len(world.authorization_server.token_requests) == 1


def test_an_unknown_state_is_refused_and_recorded(program: APIClient) -> None:
    answer = program.post(_COMPLETE, {"state": "x" * 43, "code": "c"})
    assert _error(answer) == (400, "state_mismatch")
    assert AuditRecord.objects.get().event == "callback.rejected"


@requirement("E-07", "H-02")
def test_somebody_else_cannot_finish_it(world: World, program: APIClient, bob: User) -> None:
    started, redirect = _manual(world, program)
    answer = with_token(bob).post(_COMPLETE, {"state": started["state"], "redirect_url": redirect})
    assert _error(answer) == (403, "flow_session_mismatch")
    assert world.authorization_server.token_requests == []


def test_a_browser_flow_cannot_be_finished_by_a_program(world: World, alice: User, program: APIClient) -> None:
    started = program.post(_INITIATE, {"connection_id": str(world.connection(alice).pk)}).json()
    answer = program.post(_COMPLETE, {"state": started["state"], "code": "c"})
    assert _error(answer) == (403, "flow_session_mismatch")


def test_a_person_who_says_no_is_told_so_and_polling_says_the_same(world: World, program: APIClient) -> None:
    world.authorization_server.denies_with = "access_denied"
    started, redirect = _manual(world, program)
    answer = program.post(_COMPLETE, {"state": started["state"], "redirect_url": redirect})
    polled = _status(program, started["state"]).json()
    assert _error(answer) == (409, "access_denied")
    assert "script" not in answer.content.decode()
    assert (polled["status"], polled["error_code"]) == ("failed", "access_denied")
    assert polled["error_message"] == answer.json()["message"]
    assert polled["is_retryable"] is True


def test_a_refused_code_is_a_failure_of_the_other_side(world: World, program: APIClient) -> None:
    started, _ = _manual(world, program)
    answer = program.post(_COMPLETE, {"state": started["state"], "code": "another", "iss": "https://as.example"})
    assert _error(answer) == (502, "invalid_grant")


def test_an_attempt_that_ran_out_is_expired(world: World, program: APIClient) -> None:
    started, redirect = _manual(world, program)
    AuthorizationRequest.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    polled = _status(program, started["state"]).json()
    shown = (polled["status"], polled["error_code"], polled["is_retryable"])
    assert shown == ("expired", "authorization_timeout", True)
    answer = program.post(_COMPLETE, {"state": started["state"], "redirect_url": redirect})
    assert _error(answer) == (400, "state_expired")


def test_the_state_of_somebody_else_answers_exactly_as_an_unknown_one(
    world: World, program: APIClient, bob: User
) -> None:
    started, _ = _manual(world, program)
    foreign, unknown = _status(with_token(bob), started["state"]), _status(with_token(bob), "x" * 43)
    assert _error(foreign) == (404, "not_found")
    assert {**foreign.json(), "correlation_id": ""} == {**unknown.json(), "correlation_id": ""}


@pytest.mark.parametrize(
    "body",
    [
        {"code": "c"},
        {"state": ""},
        {"state": "x" * 43},
        {"state": "x" * 43, "code": "c", "redirect_url": "http://localhost:8000/?code=c"},
        {"state": "x" * 43, "redirect_url": "http://localhost:8000/?code=c&code=d"},
        {"state": "x" * 43, "redirect_url": "http://localhost:8000/"},
        {"state": "x" * 513, "code": "c"},
        {"state": ["x" * 43], "code": "c"},
        {"state": "x" * 43, "code": "c", "error": "e"},
    ],
)
def test_an_answer_of_another_form_is_refused(program: APIClient, body: dict[str, Any]) -> None:
    answer = program.post(_COMPLETE, body)
    assert answer.status_code == 400
    assert answer.json()["error"] in {"invalid_request", "unknown_field"}
