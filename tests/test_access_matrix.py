"""Who gets what, for every operation that the OpenAPI document knows; an operation that is not listed here fails. Z01.

Each operation is tried by nobody, by another user, by staff without permission, by a foreign program, and by a program
of the owner that lacks the scope. What belongs to somebody else has to look exactly like what does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from audit.events import AuditEvent
from audit.models import AuditRecord
from audit.record import record
from connections.models import Connection, McpServer, TokenSet
from connections.models.api_token import ApiScope
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.models import AuthorizationRequest, Webhook, WebhookDelivery
from tests.fakes.world import World
from tests.requirements import requirement
from tests.rest_clients import anonymous, in_browser, with_token

pytestmark = pytest.mark.django_db

_MARK: Final = "alices-own"
_METHODS: Final = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Named:
    """What an address or a body names: something of Alice's, or something that is not there."""

    connection_id: str
    slug: str
    state: str
    name: str = "search"
    webhook_id: str = ""

    def address(self, path: str) -> str:
        for parameter in ("connection_id", "slug", "state", "name", "webhook_id"):
            path = path.replace(f"{{{parameter}}}", getattr(self, parameter))
        return path


@dataclass(frozen=True)
class Operation:
    """What the matrix has to know about one operation.

    Attributes:
        scope: What a token needs.
        body: What a caller who named that would send.
        strangers: Statuses that are right for somebody who owns nothing.
        tells_apart: The one exception to "foreign is unknown", with its reason.
    """

    scope: ApiScope
    body: Callable[[Named], Mapping[str, Any]] = field(default=lambda named: {})
    strangers: frozenset[int] = frozenset({404})
    tells_apart: str = ""


_FORBIDDEN: Final = frozenset({403})
_OPEN: Final = frozenset({200})
_NEW_SERVER: Final = {"name": "Other", "slug": "other", "url": "https://other.example/mcp"}

OPERATIONS: Final[Mapping[str, Operation]] = {
    "GET /api/v1/connections": Operation(ApiScope.CONNECTIONS_READ, strangers=_OPEN),
    "POST /api/v1/connections": Operation(ApiScope.CONNECTIONS_WRITE, lambda named: {"server": named.slug}),
    "GET /api/v1/connections/{connection_id}": Operation(ApiScope.CONNECTIONS_READ),
    "DELETE /api/v1/connections/{connection_id}": Operation(ApiScope.CONNECTIONS_WRITE),
    "GET /api/v1/connections/{connection_id}/status": Operation(ApiScope.CONNECTIONS_READ),
    "POST /api/v1/connections/{connection_id}/token": Operation(ApiScope.TOKENS_RELEASE),
    "POST /api/v1/connections/{connection_id}/proof": Operation(
        ApiScope.TOKENS_RELEASE, lambda named: {"method": "POST", "url": "https://mcp.example/mcp"}
    ),
    "POST /api/v1/connections/{connection_id}/refresh": Operation(ApiScope.CONNECTIONS_WRITE),
    "POST /api/v1/connections/{connection_id}/revoke": Operation(ApiScope.CONNECTIONS_WRITE),
    "POST /api/v1/connections/{connection_id}/challenge": Operation(
        ApiScope.CONNECTIONS_WRITE, lambda named: {"status": 401, "www_authenticate": "Bearer"}
    ),
    "GET /api/v1/connections/{connection_id}/tools": Operation(ApiScope.TOOLS_CALL),
    "POST /api/v1/connections/{connection_id}/tools/{name}/call": Operation(ApiScope.TOOLS_CALL),
    "GET /api/v1/connections/{connection_id}/events": Operation(ApiScope.CONNECTIONS_READ),
    "GET /api/v1/events": Operation(ApiScope.CONNECTIONS_READ, strangers=_OPEN),
    "POST /api/v1/oauth/initiate": Operation(
        ApiScope.CONNECTIONS_WRITE, lambda named: {"connection_id": named.connection_id}
    ),
    "GET /api/v1/oauth/status/{state}": Operation(ApiScope.CONNECTIONS_READ),
    "POST /api/v1/oauth/complete": Operation(
        ApiScope.CONNECTIONS_WRITE,
        lambda named: {"state": named.state, "code": "c"},
        strangers=frozenset({400, 403}),
        tells_apart="S01: an answer in the wrong hands is refused as such and burns the attempt",
    ),
    "GET /api/v1/servers": Operation(ApiScope.SERVERS_READ, strangers=_OPEN),
    "POST /api/v1/servers": Operation(ApiScope.SERVERS_WRITE, lambda named: _NEW_SERVER, strangers=_FORBIDDEN),
    "GET /api/v1/servers/{slug}": Operation(ApiScope.SERVERS_READ),
    "PATCH /api/v1/servers/{slug}": Operation(
        ApiScope.SERVERS_WRITE, lambda named: {"name": "Mine now"}, strangers=_FORBIDDEN
    ),
    "DELETE /api/v1/servers/{slug}": Operation(ApiScope.SERVERS_WRITE, strangers=_FORBIDDEN),
    "POST /api/v1/servers/{slug}/check": Operation(ApiScope.SERVERS_WRITE),
    "POST /api/v1/servers/import": Operation(
        ApiScope.SERVERS_WRITE, lambda named: {"document": {"mcpServers": {}}}, strangers=_FORBIDDEN
    ),
    "GET /api/v1/servers/export": Operation(ApiScope.SERVERS_READ, strangers=_FORBIDDEN),
    "GET /api/v1/webhooks": Operation(ApiScope.CONNECTIONS_READ, strangers=_OPEN),
    "POST /api/v1/webhooks": Operation(
        ApiScope.CONNECTIONS_WRITE, lambda named: {"url": "https://10.0.0.1/", "site_wide": True}, strangers=_FORBIDDEN
    ),
    "GET /api/v1/webhooks/{webhook_id}": Operation(ApiScope.CONNECTIONS_READ),
    "PATCH /api/v1/webhooks/{webhook_id}": Operation(
        ApiScope.CONNECTIONS_WRITE, lambda named: {"description": "Mine now", "rotate_secret": True}
    ),
    "DELETE /api/v1/webhooks/{webhook_id}": Operation(ApiScope.CONNECTIONS_WRITE),
    "POST /api/v1/webhooks/{webhook_id}/test": Operation(ApiScope.CONNECTIONS_WRITE),
    "GET /api/v1/audit/events": Operation(ApiScope.AUDIT_READ, strangers=_OPEN),
}


@pytest.fixture
def alices(world: World, alice: User) -> Named:
    """A server only Alice may use, her connection to it, an attempt of hers, and a record of what she did."""
    server = world.server(_MARK, auth_type=McpServer.AuthType.OAUTH)
    server.users.add(alice)
    connection = world.connect(alice, now=timezone.now(), slug=_MARK)
    TokenSet.objects.update(obtained_at=timezone.now() - timedelta(minutes=5))
    state = start_authorization(connection, user=alice, now=timezone.now(), manual=True).state.reveal()
    record(AuditEvent.TOKEN_RELEASED, actor=alice, server=_MARK, connection=connection)
    webhook = Webhook.objects.create(
        owner=alice, url=f"https://{_MARK}.example/hook", description=_MARK, created_at=timezone.now()
    )
    world.internet.calls.clear()
    return Named(str(connection.pk), _MARK, state, webhook_id=str(webhook.pk))


@pytest.fixture
def nothing() -> Named:
    return Named(str(uuid4()), "no-such-server", "x" * 43, webhook_id=str(uuid4()))


@pytest.fixture
def staff(db: None) -> User:
    return User.objects.create_user("staff", password="correct horse battery", is_staff=True)


def _ask(client: APIClient, operation: str, named: Named) -> Any:
    method, _, path = operation.partition(" ")
    body = OPERATIONS[operation].body(named)
    sent = {} if method == "GET" else {"data": json.dumps(body), "content_type": "application/json"}
    return getattr(client, method.lower())(named.address(path), **sent)


def _seen(answer: Any) -> tuple[int, Any, dict[str, str]]:
    """All that a caller can compare, without the ids that differ from one request to the next."""
    headers = {name: value for name, value in answer.headers.items() if name != "X-Request-ID"}
    said = answer.json() if answer.headers["Content-Type"] == "application/json" else answer.content.decode()
    if isinstance(said, dict):
        said.pop("correlation_id", None)
    return answer.status_code, said, headers


def _everything() -> list[object]:
    """What no stranger may change."""
    return [
        list(McpServer.objects.values()),
        list(Connection.objects.values()),
        list(TokenSet.objects.values()),
        list(AuthorizationRequest.objects.values()),
        list(Webhook.objects.values()),
        list(WebhookDelivery.objects.values()),
    ]


def test_every_operation_of_the_document_is_in_this_matrix_and_no_other() -> None:
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    rest = {path: item for path, item in paths.items() if path.startswith("/api/v1/")}
    known = {f"{method.upper()} {path}" for path, item in rest.items() for method in item if method in _METHODS}
    assert known == set(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
@requirement("H-01")
def test_nobody_gets_a_challenge_and_nothing_else(operation: str, alices: Named, nothing: Named) -> None:
    before = _everything()
    answer = _ask(anonymous(), operation, alices)
    assert (answer.status_code, answer.json()["error"]) == (401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.headers["Cache-Control"] == "no-store"
    assert _seen(answer) == _seen(_ask(anonymous(), operation, nothing))
    assert _everything() == before


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_credential_of_nobody_is_as_good_as_none(operation: str, alices: Named) -> None:
    client = anonymous()
    for credential in ("mcp_" + "x" * 43, "eyJhbGciOiJub25lIn0.e30.", ""):
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {credential}")
        assert _ask(client, operation, alices).status_code == 401


@pytest.mark.parametrize("who", ["another user", "staff", "another user's program", "staff's program"])
@pytest.mark.parametrize("operation", OPERATIONS)
@requirement("H-02")
def test_what_is_somebody_elses_looks_exactly_like_what_does_not_exist(
    operation: str, who: str, alices: Named, nothing: Named, bob: User, staff: User, world: World
) -> None:
    person = staff if who.startswith("staff") else bob
    client = with_token(person) if who.endswith("program") else in_browser(person)
    expected = OPERATIONS[operation]
    before = _everything()
    foreign, unknown = _ask(client, operation, alices), _ask(client, operation, nothing)
    allowed = expected.strangers
    if expected.scope == ApiScope.TOKENS_RELEASE and not who.endswith("program"):
        allowed = _FORBIDDEN
    assert {foreign.status_code, unknown.status_code} <= allowed
    assert _MARK not in foreign.content.decode()
    assert alices.connection_id not in foreign.content.decode()
    assert world.internet.calls == []
    if not expected.tells_apart:
        assert _seen(foreign) == _seen(unknown)
        assert _everything() == before


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_token_without_the_scope_is_refused_before_anything_is_looked_up(
    operation: str, alices: Named, nothing: Named, alice: User
) -> None:
    others = set(ApiScope) - {OPERATIONS[operation].scope}
    client = with_token(alice, *others)
    before = _everything()
    own = _ask(client, operation, alices)
    assert (own.status_code, own.json()["error"]) == (403, "insufficient_scope")
    assert _seen(own) == _seen(_ask(client, operation, nothing))
    assert _everything() == before


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_empty_list_of_scopes_gives_no_rights(operation: str, alices: Named, alice: User) -> None:
    client = with_token(alice, OPERATIONS[operation].scope)
    alice.api_tokens.update(scopes=[])
    assert _ask(client, operation, alices).json()["error"] == "insufficient_scope"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_scope_alone_is_enough_for_its_operation(operation: str, nothing: Named, administrator: User) -> None:
    answer = _ask(with_token(administrator, OPERATIONS[operation].scope), operation, nothing)
    assert answer.status_code not in {401, 403}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_deactivated_person_and_their_programs_are_nobody(operation: str, alices: Named, alice: User) -> None:
    clients = [in_browser(alice), with_token(alice)]
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert [_ask(client, operation, alices).status_code for client in clients] == [401, 401]


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if not name.startswith("GET")])
def test_a_session_without_the_csrf_token_changes_nothing(operation: str, alices: Named, alice: User) -> None:
    client = anonymous()
    client.force_login(alice)
    before = _everything()
    assert _ask(client, operation, alices).status_code == 403
    assert _everything() == before


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_token_in_the_address_is_refused(operation: str, alices: Named, alice: User) -> None:
    method, _, path = operation.partition(" ")
    answer = getattr(in_browser(alice), method.lower())(f"{alices.address(path)}?access_token=x")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_staff_may_see_all_records_only_with_the_permission(alices: Named, staff: User) -> None:
    assert in_browser(staff).get("/api/v1/audit/events").json()["results"] == []
    assert AuditRecord.objects.filter(server=_MARK).exists()
