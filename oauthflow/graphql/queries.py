"""Queries. None of them changes anything or uses the network."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import graphene
from django.utils import timezone
from graphql import GraphQLResolveInfo

from audit.models import AuditRecord, AuditRecordQuerySet
from connections.models import Connection
from connections.models.api_token import ApiScope
from connections.models.connection import ConnectionQuerySet
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.errors import StateError
from oauthflow.status import authorization_status, connection_status

from .access import NotFoundError, RefusedError, needs, person, visible_connection
from .types import (
    MCPAuditEvent,
    MCPConnection,
    MCPOAuthConnectionStatus,
    MCPOAuthStatusResult,
    MCPServer,
    Page,
)

if TYPE_CHECKING:
    from django.contrib.auth.models import User

_AUDIT_COLUMNS: Final = {
    "event": "event", "user": "actor", "server": "server", "connection_id": "connection",
    "since": "at__gte", "until": "at__lt",
}  # fmt: skip


class GetMCPOAuthStatusInput(graphene.InputObjectType):
    """Which authorization."""

    state_parameter = graphene.String(required=True)


@needs(ApiScope.CONNECTIONS_READ)
def _connection_status(root: object, info: GraphQLResolveInfo, connection_id: str) -> dict[str, Any]:
    connection = visible_connection(person(info), connection_id)
    return asdict(connection_status(connection, now=timezone.now()))


@needs(ApiScope.CONNECTIONS_READ)
def _authorization_status(root: object, info: GraphQLResolveInfo, wanted: dict[str, Any]) -> dict[str, Any]:
    return flow_status(wanted["state_parameter"], user=person(info))


def flow_status(state: str, *, user: User) -> dict[str, Any]:
    """Return how the authorization of that state stands, as `MCPOAuthStatusResult` has it."""
    found = own_request(state, user=user)
    if found is None:
        return {"success": False, "error_message": NotFoundError().message}
    said = asdict(authorization_status(found, now=timezone.now()))
    failed = bool(said["error_code"])
    return said | {
        "success": True,
        "error_message": None,
        "status": str(said["status"]),
        "auth_error_code": said["error_code"] or None,
        "auth_error_description": said["error_message"] or None,
        "is_retryable": said["is_retryable"] if failed else None,
    }


def own_request(state: str, *, user: User) -> AuthorizationRequest | None:
    """Return the user's authorization of that state; somebody else's is as good as an unknown one. Z01, H-02."""
    try:
        found = AuthorizationRequest.objects.with_state(state)
    except StateError:
        return None
    return found if found.user_id == user.pk else None


@needs(ApiScope.SERVERS_READ)
def _servers(root: object, info: GraphQLResolveInfo, **page: object) -> None:
    """The type's own `get_queryset` chooses."""


@needs(ApiScope.CONNECTIONS_READ)
def _connections(
    root: object, info: GraphQLResolveInfo, server: str | None = None, **page: object
) -> ConnectionQuerySet:
    found = Connection.objects.all()
    return found.filter(server__slug=server) if server is not None else found


@needs(ApiScope.AUDIT_READ)
def _audit_events(
    root: object,
    info: GraphQLResolveInfo,
    since: datetime | None = None,
    until: datetime | None = None,
    **filters: Any,
) -> AuditRecordQuerySet:
    wanted = {"since": _aware(since), "until": _aware(until), **filters}
    return AuditRecord.objects.filter(
        **{column: wanted[name] for name, column in _AUDIT_COLUMNS.items() if wanted.get(name) is not None}
    ).order_by("-sequence")


def _aware(at: datetime | None) -> datetime | None:
    if at is None:
        return None
    try:
        return (timezone.make_aware(at) if timezone.is_naive(at) else at).astimezone(UTC)
    except OverflowError as error:
        raise RefusedError("invalid_request", "A time has to lie between the years 1 and 9999 in UTC.") from error


class Query(graphene.ObjectType):
    """What can be asked."""

    get_mcp_oauth_connection_status = graphene.Field(
        MCPOAuthConnectionStatus,
        name="getMCPOAuthConnectionStatus",
        connection_id=graphene.ID(required=True),
        resolver=_connection_status,
    )
    get_mcp_oauth_status = graphene.Field(
        MCPOAuthStatusResult,
        name="getMCPOAuthStatus",
        wanted=graphene.Argument(GetMCPOAuthStatusInput, name="input", required=True),
        resolver=_authorization_status,
    )
    mcp_servers = Page(MCPServer, resolver=_servers)
    mcp_connections = Page(MCPConnection, server=graphene.String(description="Slug."), resolver=_connections)
    mcp_audit_events = Page(
        MCPAuditEvent,
        event=graphene.String(),
        user=graphene.String(description="Id of the user who acted, or `system`."),
        server=graphene.String(description="Slug."),
        connection_id=graphene.ID(),
        since=graphene.DateTime(name="from", description="This instant and later."),
        until=graphene.DateTime(name="to", description="Before this instant."),
        resolver=_audit_events,
    )
