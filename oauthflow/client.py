"""MCP servers for Django code that runs beside this site.

    from oauthflow.client import connect

    with connect("notion", user=request.user) as mcp:
        mcp.call_tool("search", {"query": "roadmap"})

Tokens are refreshed where needed. Where a person has to sign in first, `AuthorizationRequired` carries the link.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import connections
from django.utils import timezone

from connections.models import Connection, McpServer
from connections.services import connection_for, default_connection

from .egress.mcp_client import open_mcp_client
from .flows.call_tools import ScopeRequiredError, call_tool, list_tools
from .flows.request_headers import PreparedRequest, prepare_request
from .flows.start_authorization import StartedAuthorization, waiting_authorization
from .protocol.errors import AuthorizationRequiredError

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from mcp import Client


class AuthorizationRequired(Exception):
    """A person has to sign in: send them to `authorization_url` before `expires_at` (aware UTC)."""

    def __init__(self, started: StartedAuthorization) -> None:
        super().__init__("somebody has to sign in at the service first")
        self.authorization_url = started.authorization_url
        self.state = started.state
        self.expires_at = started.expires_at


class ReauthorizationRequired(AuthorizationRequired):
    """It worked before and has ended; `reason` says why."""

    def __init__(self, started: StartedAuthorization, *, reason: str) -> None:
        super().__init__(started)
        self.reason = reason


class ConnectedServer:
    """One MCP server, as one user's connection reaches it."""

    def __init__(self, connection: Connection, *, user: User) -> None:
        self._connection = connection
        self._user = user

    def list_tools(self) -> list[dict[str, Any]]:
        """Return the tools, as `tools/list` describes them."""
        with _asking_for_a_person(self._connection, user=self._user):
            return list_tools(self._connection, now=timezone.now())

    def call_tool(self, name: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call a tool; return its result as MCP has it (`content`, `isError`, `structuredContent`)."""
        with _asking_for_a_person(self._connection, user=self._user):
            return call_tool(self._connection, name=name, arguments=arguments or {}, now=timezone.now())


@contextmanager
def connect(server: str, *, user: User, label: str | None = None) -> Iterator[ConnectedServer]:
    """Yield a connected server.

    Args:
        server: Slug of a server that the user may use.
        user: On whose behalf.
        label: Which of several connections; None takes the user's own before a shared one.

    Raises:
        McpServer.DoesNotExist: There is no such server for this user.
        AuthorizationRequired: A person has to sign in first; ReauthorizationRequired where it worked before.
        FlowError: The server cannot be reached or understood.
    """
    connection = _connection(server, user=user, label=label)
    with _asking_for_a_person(connection, user=user):
        prepare_request(connection, now=timezone.now())
    yield ConnectedServer(connection, user=user)


@asynccontextmanager
async def aconnect(server: str, *, user: User, label: str | None = None) -> AsyncIterator[Client]:
    """Yield the official SDK's client, connected and authorized. Arguments and errors as `connect`."""
    prepared = await sync_to_async(_prepared, thread_sensitive=False)(server, user=user, label=label)
    async with open_mcp_client(prepared.target, headers=prepared.headers, dpop=prepared.dpop) as client:
        yield client


def _prepared(server: str, *, user: User, label: str | None) -> PreparedRequest:
    """Runs in a thread of its own, whose database connection nobody else would ever close."""
    try:
        connection = _connection(server, user=user, label=label)
        with _asking_for_a_person(connection, user=user):
            return prepare_request(connection, now=timezone.now())
    finally:
        connections.close_all()


def _connection(server: str, *, user: User, label: str | None) -> Connection:
    configured = McpServer.objects.usable_by(user).get(slug=server)
    return default_connection(user, configured, label=label) or connection_for(
        user, configured, label=label or "", actor=user
    )


@contextmanager
def _asking_for_a_person(connection: Connection, *, user: User) -> Iterator[None]:
    try:
        yield
    except AuthorizationRequiredError as error:
        challenge = error.challenge if isinstance(error, ScopeRequiredError) else None
        started = waiting_authorization(connection, user=user, now=timezone.now(), challenge=challenge)
        if error.reason in ("not_connected", ""):
            raise AuthorizationRequired(started) from error
        raise ReauthorizationRequired(started, reason=error.reason) from error
