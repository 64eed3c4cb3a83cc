"""Mutations: each calls one flow. What stops a flow is part of the answer, never an error of the transport."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import graphene
from django.utils import timezone
from graphql import GraphQLResolveInfo

from connections.database_time import by_database
from connections.models import Connection
from connections.models.api_token import ApiScope
from oauthflow.error_responses import graphql_payload
from oauthflow.flows.call_tools import ScopeRequiredError, call_tool, list_tools
from oauthflow.flows.connect_unattended import connect_unattended
from oauthflow.flows.refresh import refresh_connection
from oauthflow.flows.revoke import revoke_connection
from oauthflow.flows.start_authorization import (
    StartedAuthorization,
    start_authorization,
    waiting_authorization,
)
from oauthflow.protocol.errors import AuthorizationRequiredError, FlowError, InvalidRequestError

from .access import RefusedError, managed_connection, needs, person, usable_connection
from .mutation_shapes import (
    ExecuteMCPToolInput,
    ExecuteMCPToolResult,
    InitiateMCPOAuthInput,
    InitiateMCPOAuthResult,
    RefreshMCPOAuthTokenInput,
    RefreshMCPOAuthTokenResult,
    RevokeMCPOAuthInput,
    RevokeMCPOAuthResult,
    SyncMCPToolsInput,
    SyncMCPToolsResult,
)

if TYPE_CHECKING:
    from django.contrib.auth.models import User

Answer = dict[str, Any]
Operation = Callable[["User", dict[str, Any], datetime], Answer]

_LONGEST_SCOPE: Final = 1000
_LONGEST_REASON: Final = 200


def _mutation(name: str, shape: type, *, takes: type, scope: ApiScope, operation: Operation) -> graphene.Field:
    """Make a field whose answer always says how it went."""

    @needs(scope)
    def resolver(root: object, info: GraphQLResolveInfo, wanted: dict[str, Any]) -> Answer:
        try:
            return {"success": True, **operation(person(info), wanted, timezone.now())}
        except RefusedError as error:
            return {"success": False, "error_message": error.message, "error_code": error.code}
        except FlowError as error:
            return _failed(error)

    return graphene.Field(
        shape, name=name, wanted=graphene.Argument(takes, name="input", required=True), resolver=resolver
    )


def _failed(error: FlowError, *, started: StartedAuthorization | None = None) -> Answer:
    said = graphql_payload(error, started=started)
    return said | {
        "error_code": said["code"],
        "is_retryable": said["retryable"],
        "state_parameter": said.get("state"),
    }


def _initiate(user: User, wanted: dict[str, Any], now: datetime) -> Answer:
    managed_connection(user, wanted["connection_id"])
    connection = usable_connection(user, wanted["connection_id"])
    if connection.server.is_unattended:
        try:
            connect_unattended(connection, actor=user, now=now)
        except AuthorizationRequiredError as error:
            return _person_needed(error, connection=connection, user=user, now=now)
        return {"used_dynamic_registration": False}
    started = start_authorization(
        connection,
        user=user,
        now=now,
        additional_scopes=_text(wanted, "additional_scopes", longest=_LONGEST_SCOPE),
        return_to=wanted.get("return_to") or "",
    )
    return {
        "authorization_url": started.authorization_url,
        "state_parameter": started.state.reveal(),
        "expires_at": started.expires_at,
        "used_dynamic_registration": started.used_dynamic_registration,
    }


def _revoke(user: User, wanted: dict[str, Any], now: datetime) -> Answer:
    reason = _text(wanted, "reason", longest=_LONGEST_REASON)
    connection = managed_connection(user, wanted["connection_id"])
    revoke_connection(connection, actor=user, reason=reason, now=now)
    return {"connection_id": connection.pk}


def _refresh(user: User, wanted: dict[str, Any], now: datetime) -> Answer:
    connection = usable_connection(user, wanted["connection_id"])
    refresh_connection(connection, now=by_database(now), actor=user, trigger="request")
    tokens = connection.token_set
    return {"expires_at": tokens.expires_at if tokens else None, "requires_reauthorization": False}


def _sync_tools(user: User, wanted: dict[str, Any], now: datetime) -> Answer:
    connection = usable_connection(user, wanted["connection_id"])
    try:
        tools = list_tools(connection, now=now)
    except AuthorizationRequiredError as error:
        return _person_needed(error, connection=connection, user=user, now=now)
    return {"tool_count": len(tools), "result": tools, **_NOBODY_NEEDED}


def _execute_tool(user: User, wanted: dict[str, Any], now: datetime) -> Answer:
    connection = usable_connection(user, wanted["connection_id"])
    arguments = wanted.get("input_args")
    if not isinstance(arguments, dict | None):
        raise InvalidRequestError("inputArgs is not an object")
    try:
        result = call_tool(connection, name=wanted["tool_name"], arguments=arguments or {}, now=now)
    except AuthorizationRequiredError as error:
        return _person_needed(error, connection=connection, user=user, now=now)
    if result.get("isError"):
        return {"success": False, "error_message": "The tool reports an error; see its result.", "result": result}
    return {"result": result, **_NOBODY_NEEDED}


_NOBODY_NEEDED: Final = {"requires_oauth": False, "requires_reauthorization": False}


def _person_needed(error: AuthorizationRequiredError, *, connection: Connection, user: User, now: datetime) -> Answer:
    """Start an authorization that this user may finish; only an administrator gets a link for a shared connection."""
    if connection.is_shared and not user.has_perm("connections.manage_shared_connection"):
        return _failed(error)
    challenge = error.challenge if isinstance(error, ScopeRequiredError) else None
    return _failed(error, started=waiting_authorization(connection, user=user, now=now, challenge=challenge))


def _text(wanted: dict[str, Any], name: str, *, longest: int) -> str:
    text: str = wanted.get(name) or ""
    if len(text) > longest:
        raise InvalidRequestError(f"{name} has more than {longest} characters")
    return text


class Mutation(graphene.ObjectType):
    """What can be done."""

    initiate_mcp_oauth = _mutation(
        "initiateMCPOAuth", InitiateMCPOAuthResult,
        takes=InitiateMCPOAuthInput, scope=ApiScope.CONNECTIONS_WRITE, operation=_initiate,
    )  # fmt: skip
    revoke_mcp_oauth = _mutation(
        "revokeMCPOAuth", RevokeMCPOAuthResult,
        takes=RevokeMCPOAuthInput, scope=ApiScope.CONNECTIONS_WRITE, operation=_revoke,
    )  # fmt: skip
    refresh_mcp_oauth_token = _mutation(
        "refreshMCPOAuthToken", RefreshMCPOAuthTokenResult,
        takes=RefreshMCPOAuthTokenInput, scope=ApiScope.CONNECTIONS_WRITE, operation=_refresh,
    )  # fmt: skip
    sync_mcp_tools = _mutation(
        "syncMCPTools", SyncMCPToolsResult,
        takes=SyncMCPToolsInput, scope=ApiScope.TOOLS_CALL, operation=_sync_tools,
    )  # fmt: skip
    execute_mcp_tool = _mutation(
        "executeMCPTool", ExecuteMCPToolResult,
        takes=ExecuteMCPToolInput, scope=ApiScope.TOOLS_CALL, operation=_execute_tool,
    )  # fmt: skip
