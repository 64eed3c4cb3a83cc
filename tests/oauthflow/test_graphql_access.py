"""Who gets what, for every operation of the GraphQL schema; one that is not listed here fails. Z01, Z02."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from audit.events import AuditEvent
from audit.models import AuditRecord
from audit.record import record
from connections.models import Connection, McpServer, TokenSet
from connections.models.api_token import ApiScope
from connections.services import shared_connection
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.graphql.schema import schema
from oauthflow.models import AuthorizationRequest
from tests.fakes.world import World
from tests.requirements import requirement

from .graphql_client import Answer, api_token, ask, server_of

pytestmark = pytest.mark.django_db


@dataclass(frozen=True)
class Operation:
    """How to call it about something of Alice's, and the scope that it takes."""

    scope: ApiScope
    text: str


_CONNECTION: Final = 'input: {connectionId: "%(id)s"'
OPERATIONS: Final = {
    "getMCPOAuthConnectionStatus": Operation(
        ApiScope.CONNECTIONS_READ, '{ getMCPOAuthConnectionStatus(connectionId: "%(id)s") { connectionId issuerUrl } }'
    ),
    "getMCPOAuthStatus": Operation(
        ApiScope.CONNECTIONS_READ,
        '{ getMCPOAuthStatus(input: {stateParameter: "%(state)s"}) { success errorMessage status connectionId } }',
    ),
    "mcpServers": Operation(ApiScope.SERVERS_READ, "{ mcpServers { edges { node { id slug } } } }"),
    "mcpConnections": Operation(ApiScope.CONNECTIONS_READ, "{ mcpConnections { edges { node { id label user } } } }"),
    "mcpAuditEvents": Operation(ApiScope.AUDIT_READ, "{ mcpAuditEvents { edges { node { id actor details } } } }"),
    "initiateMCPOAuth": Operation(
        ApiScope.CONNECTIONS_WRITE,
        f"mutation {{ initiateMCPOAuth({_CONNECTION}}}) {{ success errorMessage errorCode authorizationUrl }} }}",
    ),
    "revokeMCPOAuth": Operation(
        ApiScope.CONNECTIONS_WRITE,
        f"mutation {{ revokeMCPOAuth({_CONNECTION}}}) {{ success errorMessage errorCode connectionId }} }}",
    ),
    "refreshMCPOAuthToken": Operation(
        ApiScope.CONNECTIONS_WRITE,
        f"mutation {{ refreshMCPOAuthToken({_CONNECTION}}}) {{ success errorMessage errorCode expiresAt }} }}",
    ),
    "syncMCPTools": Operation(
        ApiScope.TOOLS_CALL,
        f"mutation {{ syncMCPTools({_CONNECTION}}}) {{ success errorMessage errorCode requiresOAuth result }} }}",
    ),
    "executeMCPTool": Operation(
        ApiScope.TOOLS_CALL,
        f'mutation {{ executeMCPTool({_CONNECTION}, toolName: "x"}}) '
        "{ success errorMessage errorCode requiresOAuth result } }",
    ),
}
_ABOUT_ONE: Final = sorted(OPERATIONS.keys() - {"mcpServers", "mcpConnections", "mcpAuditEvents"})


@dataclass(frozen=True)
class Belongings:
    """What Alice has."""

    id: str
    state: str


@pytest.fixture
def of_alice(world: World, alice: User) -> Belongings:
    """A connection with tokens to a server that only Alice may use, and a sign-in that is not finished."""
    connection = world.connect(alice, now=timezone.now())
    connection.server.users.add(alice)
    Connection.objects.update(label="alices-own")
    started = start_authorization(connection, user=alice, now=timezone.now())
    return Belongings(str(connection.pk), started.state.reveal())


def _asked(name: str, about: Belongings, **credential: Any) -> Answer:
    return ask(OPERATIONS[name].text % {"id": about.id, "state": about.state}, **credential)


def _rows() -> tuple[Any, ...]:
    return (
        list(Connection.objects.values("pk", "status", "reason")),
        list(TokenSet.objects.values("generation")),
        AuthorizationRequest.objects.count(),
        AuditRecord.objects.count(),
    )


def _without_ids(answer: Answer) -> str:
    return re.sub(r"'correlationId': '[0-9a-f]+'", "", str(answer.body))


def test_every_operation_of_the_schema_is_listed_here() -> None:
    graph = schema.graphql_schema
    assert graph.query_type is not None
    assert graph.mutation_type is not None
    assert graph.subscription_type is not None
    assert {*graph.query_type.fields, *graph.mutation_type.fields} == OPERATIONS.keys()
    # Who may listen is proved in test_graphql_stream.py.
    assert graph.subscription_type.fields.keys() == {"onMCPOAuthCompleted", "onMCPOAuthEvent"}


@pytest.mark.parametrize("name", OPERATIONS)
def test_nobody_gets_nothing(of_alice: Belongings, name: str) -> None:
    before = _rows()
    answer = _asked(name, of_alice)
    assert (answer.status, answer.codes) == (401, ["not_authenticated"])
    assert "data" not in answer.body
    assert _rows() == before


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_token_with_every_other_scope_gets_nothing(of_alice: Belongings, alice: User, name: str) -> None:
    before = _rows()
    others = [scope.value for scope in ApiScope if scope != OPERATIONS[name].scope]
    answer = _asked(name, of_alice, token=api_token(alice, *others))
    assert (answer.status, answer.codes) == (200, ["insufficient_scope"])
    assert answer.data == {name: None}
    assert OPERATIONS[name].scope.value in answer.body["errors"][0]["message"]
    assert _rows() == before


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_one_scope_is_enough_for_the_owner(
    of_alice: Belongings, alice: User, name: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oauthflow.graphql.mutations.list_tools", lambda connection, **_: [])
    monkeypatch.setattr("oauthflow.graphql.mutations.call_tool", lambda connection, **_: {"content": []})
    answer = _asked(name, of_alice, token=api_token(alice, OPERATIONS[name].scope))
    assert (answer.status, answer.codes) == (200, [])
    assert answer.data[name].get("success", True) is True


@requirement("H-02")
@pytest.mark.parametrize("name", _ABOUT_ONE)
@pytest.mark.parametrize("stranger", ["program", "browser", "staff"])
def test_what_belongs_to_somebody_else_looks_like_what_does_not_exist(
    of_alice: Belongings, bob: User, name: str, stranger: str
) -> None:
    if stranger == "staff":
        bob.is_staff = True
        bob.save()
    credential: dict[str, Any] = {"token": api_token(bob, *ApiScope.values)}
    if stranger == "browser":
        browser = Client()
        browser.force_login(bob)
        credential = {"client": browser}
    before = _rows()
    foreign = _asked(name, of_alice, **credential)
    unknown = _asked(name, Belongings(str(uuid4()), "x" * 43), **credential)
    malformed = _asked(name, Belongings("1", ""), **credential)
    assert _without_ids(foreign) == _without_ids(unknown) == _without_ids(malformed)
    assert foreign.status == unknown.status == malformed.status == 200
    assert "nothing of yours" in str(foreign.body)
    assert {name for name in foreign.headers if name != "X-Request-ID"} == {
        name for name in unknown.headers if name != "X-Request-ID"
    }
    assert _rows() == before


def test_lists_hold_only_what_is_the_callers_or_shared_with_them(of_alice: Belongings, alice: User, bob: User) -> None:
    record(AuditEvent.TOKEN_RELEASED, actor=alice, details={"label": "alices-own"})
    open_to_all = server_of("open", connection_policy="shared")
    shared = shared_connection(open_to_all)
    server_of("closed", status=McpServer.Status.INACTIVE)
    token = api_token(bob, *ApiScope.values)
    servers = _asked("mcpServers", of_alice, token=token).data["mcpServers"]["edges"]
    connections = _asked("mcpConnections", of_alice, token=token).data["mcpConnections"]["edges"]
    records = _asked("mcpAuditEvents", of_alice, token=token)
    assert [edge["node"]["slug"] for edge in servers] == ["open"]
    assert [edge["node"] for edge in connections] == [{"id": str(shared.pk), "label": "", "user": None}]
    assert records.data["mcpAuditEvents"]["edges"] == []
    own = _asked("mcpConnections", of_alice, token=api_token(alice, *ApiScope.values)).data["mcpConnections"]["edges"]
    assert {edge["node"]["label"] for edge in own} == {"alices-own", ""}


def test_a_filter_opens_nothing(of_alice: Belongings, alice: User, bob: User) -> None:
    token = api_token(bob, *ApiScope.values)
    answer = ask(
        '{ mcpConnections(server: "notes") { edges { cursor } }'
        f' mcpAuditEvents(user: "{alice.pk}", connectionId: "{of_alice.id}") {{ edges {{ cursor }} }} }}',
        token=token,
    )
    assert answer.data == {"mcpConnections": {"edges": []}, "mcpAuditEvents": {"edges": []}}


def test_permissions_open_the_lists_of_servers_and_records_but_not_of_connections(
    of_alice: Belongings, bob: User
) -> None:
    bob.user_permissions.add(*Permission.objects.filter(codename__in=("view_mcpserver", "view_auditrecord")))
    token = api_token(bob, *ApiScope.values)
    assert [
        edge["node"]["slug"] for edge in _asked("mcpServers", of_alice, token=token).data["mcpServers"]["edges"]
    ] == ["notes"]
    assert _asked("mcpAuditEvents", of_alice, token=token).data["mcpAuditEvents"]["edges"]
    assert _asked("mcpConnections", of_alice, token=token).data["mcpConnections"]["edges"] == []


def test_records_are_filtered_and_come_newest_first(alice: User) -> None:
    begin = timezone.now()
    for server in ("one", "two", "one"):
        record(AuditEvent.TOKEN_RELEASED, actor=alice, server=server)
    record(AuditEvent.KEY_ROTATED, actor=alice, server="one")
    query = """query($from: DateTime, $to: DateTime) { mcpAuditEvents(
        event: "token.released", server: "one", from: $from, to: $to) { edges { node { id server event } } } }"""
    token = api_token(alice, ApiScope.AUDIT_READ)
    found = ask(query, token=token, **{"from": begin.isoformat()}).data["mcpAuditEvents"]["edges"]
    assert [edge["node"]["id"] for edge in found] == ["3", "1"]
    naive = begin.replace(tzinfo=None).isoformat()
    assert ask(query, token=token, to=naive).data["mcpAuditEvents"]["edges"] == []


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_no_calendar_has_in_utc_is_the_callers_mistake(alice: User, time: str) -> None:
    query = f'{{ mcpAuditEvents(from: "{time}") {{ edges {{ cursor }} }} }}'
    assert ask(query, token=api_token(alice, ApiScope.AUDIT_READ)).codes == ["invalid_request"]


def test_a_token_of_somebody_who_was_deactivated_opens_nothing(of_alice: Belongings, alice: User) -> None:
    token = api_token(alice, *ApiScope.values)
    User.objects.update(is_active=False)
    assert _asked("mcpConnections", of_alice, token=token).status == 401
