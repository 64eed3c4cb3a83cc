"""List and call the tools of a connected server, through the official MCP SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from connections.models import Connection
from connections.services import require_reauthorization
from oauthflow.egress import leave_database
from oauthflow.egress.mcp_client import FIRST_MODERN, McpRefusedError, TokenRefusedError, with_mcp_client
from oauthflow.protocol.bearer import BearerChallenge, bearer_challenge
from oauthflow.protocol.errors import AuthorizationRequiredError, MalformedResponseError

from .request_headers import PreparedRequest, prepare_request

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult, Tool

Result = TypeVar("Result")

_MOST_PAGES = 50


class ScopeRequiredError(AuthorizationRequiredError):
    """The server wants more scope than was granted; `challenge` says which. S-02."""

    def __init__(self, challenge: BearerChallenge) -> None:
        super().__init__("the server asks for more scope", reason="insufficient_scope")
        self.challenge = challenge


def list_tools(connection: Connection, *, now: datetime) -> list[dict[str, Any]]:
    """Return the server's tools as its `tools/list` describes them.

    Raises:
        AuthorizationRequiredError: A person has to sign in; ScopeRequiredError where more scope is asked for.
        FlowError: The server cannot be reached or understood.
    """

    async def operation(client: Client) -> list[dict[str, Any]]:
        return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) async for tool in _listed(client)]

    try:
        return _run(connection, operation, now=now)
    except McpRefusedError as error:
        raise MalformedResponseError("the server refused to list its tools") from error


def call_tool(connection: Connection, *, name: str, arguments: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Call one tool and return its result: `content`, `isError` and `structuredContent` as MCP has them.

    An error that the server gives for the call itself comes back as a result with `isError`. Errors as `list_tools`.
    """

    async def operation(client: Client) -> dict[str, Any]:
        result = await called(client, name, arguments)
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)

    try:
        return _run(connection, operation, now=now)
    except McpRefusedError as error:
        return {"content": [{"type": "text", "text": error.answer}], "isError": True}


async def called(client: Client, name: str, arguments: dict[str, Any]) -> CallToolResult:
    """Call one tool; at servers of 2026-07-28 with the headers that its description asks for.

    The SDK would list the tools after the call, to check its result.

    Spec: MCP 2026-07-28, transports, custom headers from tool parameters. G-25.
    """
    if client.protocol_version >= FIRST_MODERN:
        async for tool in _listed(client):
            if tool.name == name:
                break
    return await client.call_tool(name, arguments)


async def _listed(client: Client) -> AsyncIterator[Tool]:
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            yield tool
        cursor = page.next_cursor
        if not cursor:
            return


def _run(connection: Connection, operation: Callable[[Client], Awaitable[Result]], *, now: datetime) -> Result:
    """Run it; a token that is refused is renewed once."""
    prepared = prepare_request(connection, now=now)
    try:
        return _sent(prepared, operation)
    except TokenRefusedError as error:
        _refuse_more_scope(error)
        if prepared.access_token is None:
            raise MalformedResponseError("the server refuses the credential entered for it") from error
    prepared = prepare_request(connection, now=now, refused=prepared.access_token)
    try:
        return _sent(prepared, operation)
    except TokenRefusedError as error:
        _refuse_more_scope(error)
        require_reauthorization(connection, reason="fresh_token_refused")
        raise AuthorizationRequiredError("a fresh token is refused", reason="fresh_token_refused") from error


def _sent(prepared: PreparedRequest, operation: Callable[[Client], Awaitable[Result]]) -> Result:
    leave_database()
    client = with_mcp_client(prepared.target, headers=prepared.headers, dpop=prepared.dpop, operation=operation)
    return asyncio.run(client)


def _refuse_more_scope(error: TokenRefusedError) -> None:
    challenge = bearer_challenge(error.www_authenticate)
    if error.status == 403:
        if challenge is not None and challenge.error == "insufficient_scope":
            raise ScopeRequiredError(challenge) from error
        raise McpRefusedError("The server does not permit this.") from error
