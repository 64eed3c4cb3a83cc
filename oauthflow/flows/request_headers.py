"""What a request to an MCP server must carry, whichever way the server authenticates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from connections.dpop_keys import dpop_key
from connections.last_use import note_use
from connections.models import Connection, McpServer
from oauthflow.egress.bound_token import BoundToken
from oauthflow.egress.mcp_target import McpTarget
from oauthflow.protocol.errors import InvalidRequestError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.token_endpoint import DPOP

from .access_token import usable_access_token


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """Where to call, with which headers; `access_token` where it is one that can be renewed, `dpop` if it is bound."""

    target: McpTarget
    headers: Mapping[str, Secret]
    access_token: Secret | None
    dpop: BoundToken | None = None


def prepare_request(connection: Connection, *, now: datetime, refused: Secret | None = None) -> PreparedRequest:
    """Return target and credentials of a connection's server.

    Raises:
        AuthorizationRequiredError: A person has to sign in first.
        FlowError: As `usable_access_token`.
    """
    server = connection.server
    target = _target(server)
    if server.auth_type == McpServer.AuthType.OAUTH:
        token = usable_access_token(connection, now=now, refused=refused)
        headers = {"Authorization": Secret(f"{token.token_type} {token.access_token.reveal()}")}
        is_bound = token.token_type == DPOP
        proved = BoundToken(token.access_token, dpop_key(connection)) if is_bound else None
        return PreparedRequest(target, headers, token.access_token, proved)
    note_use(connection, now=now)
    credential = server.static_credential_sealed.reveal()
    if server.auth_type == McpServer.AuthType.BEARER:
        return PreparedRequest(target, {"Authorization": Secret(f"Bearer {credential.reveal()}")}, None)
    if server.auth_type == McpServer.AuthType.HEADER:
        return PreparedRequest(target, {server.header_name: credential}, None)
    return PreparedRequest(target, {}, None)


def _target(server: McpServer) -> McpTarget:
    if server.transport != McpServer.Transport.STDIO:
        return McpTarget(
            "sse" if server.transport == McpServer.Transport.SSE else "streamable_http",
            url=server.url,
            timeout_seconds=server.request_timeout_seconds,
        )
    if not settings.STDIO_SERVERS_ALLOWED:
        raise InvalidRequestError("local programs are switched off here (STDIO_SERVERS_ALLOWED)")
    environment: dict[str, str] = json.loads(server.environment_sealed.reveal().reveal() or "{}")
    return McpTarget(
        "stdio",
        command=server.command,
        arguments=tuple(server.arguments),
        environment={name: Secret(value) for name, value in environment.items()},
        timeout_seconds=server.request_timeout_seconds,
    )
