"""Tools over REST. The MCP client itself is proved elsewhere; here a stand-in answers for it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from connections.models import Connection
from connections.models.api_token import ApiScope
from oauthflow.api import tools
from oauthflow.flows.call_tools import ScopeRequiredError
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.bearer import BearerChallenge
from oauthflow.protocol.errors import AuthorizationRequiredError, FlowError, MalformedResponseError, TransportError
from tests.fakes.world import World
from tests.requirements import requirement
from tests.rest_clients import in_browser, with_token

pytestmark = pytest.mark.django_db


def _url(connection: Connection, rest: str = "") -> str:
    return f"/api/v1/connections/{connection.pk}/tools{rest}"


def _answers(monkeypatch: pytest.MonkeyPatch, result: Any) -> list[dict[str, Any]]:
    """Let the stand-in answer this, or raise it; return where it writes down what it was asked."""
    asked: list[dict[str, Any]] = []

    def stand_in(connection: Connection, **said: Any) -> Any:
        asked.append({"connection": connection, **said})
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(tools, "call_tool", stand_in)
    monkeypatch.setattr(tools, "list_tools", stand_in)
    return asked


def test_tools_are_listed_as_the_server_describes_them(
    world: World, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answers(monkeypatch, [{"name": "search", "inputSchema": {"type": "object"}}])
    answer = in_browser(alice).get(_url(world.connection(alice)))
    assert answer.status_code == 200
    assert answer.json() == {"tools": [{"name": "search", "inputSchema": {"type": "object"}}]}


@pytest.mark.parametrize("name", ["create_secure_note", "notes/create", "a.b-c"])
def test_a_tool_is_called_by_its_name_with_the_arguments(
    world: World, alice: User, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked = _answers(monkeypatch, {"content": [], "isError": False})
    connection = world.connection(alice)
    answer = with_token(alice, ApiScope.TOOLS_CALL).post(_url(connection, f"/{name}/call"), {"arguments": {"n": [1]}})
    assert (answer.status_code, answer.json()) == (200, {"content": [], "isError": False})
    assert (asked[0]["connection"], asked[0]["name"], asked[0]["arguments"]) == (connection, name, {"n": [1]})


@pytest.mark.parametrize("body", [{"arguments": []}, {"arguments": "x"}, {"arguments": None}, {"argument": {}}])
def test_arguments_that_are_no_object_never_reach_the_server(
    world: World, alice: User, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any]
) -> None:
    asked = _answers(monkeypatch, {})
    answer = in_browser(alice).post(_url(world.connection(alice), "/x/call"), body)
    assert (answer.status_code, asked) == (400, [])


def test_a_call_that_needs_a_person_gives_the_link(world: World, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    _answers(monkeypatch, AuthorizationRequiredError(reason="invalid_grant"))
    answer = in_browser(alice).post(_url(world.connection(alice), "/x/call"), {})
    assert (answer.status_code, answer.json()["error"]) == (409, "authorization_required")
    assert AuthorizationRequest.objects.with_state(answer.json()["state"]).user == alice


@requirement("S-08")
def test_a_call_that_needs_more_scope_asks_for_what_was_granted_and_what_is_missing(
    world: World, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = world.connect(alice, now=timezone.now(), additional_scopes="read")
    _answers(monkeypatch, ScopeRequiredError(BearerChallenge(error="insufficient_scope", scope="write")))
    answer = in_browser(alice).post(_url(connection, "/x/call"), {})
    assert answer.status_code == 409
    assert set(AuthorizationRequest.objects.with_state(answer.json()["state"]).scope.split()) == {"read", "write"}


@pytest.mark.parametrize(("error", "status"), [(TransportError("refused"), 503), (MalformedResponseError("html"), 502)])
def test_a_server_that_fails_is_told_from_us(
    world: World, alice: User, monkeypatch: pytest.MonkeyPatch, error: FlowError, status: int
) -> None:
    _answers(monkeypatch, error)
    connection = world.connection(alice)
    for answer in (in_browser(alice).get(_url(connection)), in_browser(alice).post(_url(connection, "/x/call"), {})):
        assert (answer.status_code, answer.json()["error"]) == (status, error.code)


def test_a_token_without_the_scope_calls_nothing(world: World, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _answers(monkeypatch, {})
    client = with_token(alice, ApiScope.CONNECTIONS_READ, ApiScope.CONNECTIONS_WRITE, ApiScope.TOKENS_RELEASE)
    assert client.post(_url(world.connection(alice), "/x/call"), {}).status_code == 403
    assert asked == []
