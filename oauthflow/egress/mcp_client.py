"""The official MCP SDK's client over the guarded way out: Streamable HTTP, old SSE, and local programs.

The SDK is loaded when it is first used: it takes about as long as all the rest, and most processes never need it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx2

from oauthflow.newest import Newest
from oauthflow.protocol.errors import FlowError, MalformedResponseError, ResponseTimeoutError, TransportError
from oauthflow.protocol.secret import Secret

from .asynchronous import guarded_http_client
from .bound_token import BoundToken
from .mcp_target import McpTarget
from .result_types import with_result_types

if TYPE_CHECKING:
    from mcp import Client

Result = TypeVar("Result")

_LONGEST_ANSWER: Final = 2000
FIRST_MODERN: Final = "2026-07-28"
_OLDER: Final[Newest[str, bool]] = Newest(most=1000)
"""Addresses of servers that begin with `initialize`: they need not be asked the modern way first each time."""


class TokenRefusedError(FlowError):
    """The MCP server answered 401 or 403. `www_authenticate` is its challenge."""

    def __init__(self, status: int, www_authenticate: str) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.www_authenticate = www_authenticate


class McpRefusedError(FlowError):
    """The MCP server answered with a JSON-RPC error; `answer` is its text, for the caller of the tool only."""

    def __init__(self, answer: str) -> None:
        super().__init__("JSON-RPC error")
        self.answer = answer


async def with_mcp_client(
    target: McpTarget,
    *,
    headers: Mapping[str, Secret],
    dpop: BoundToken | None = None,
    operation: Callable[[Client], Awaitable[Result]],
) -> Result:
    """Open a client, run one operation, and close it again.

    With a bound token each request carries its own proof.

    Raises:
        TokenRefusedError: 401 or 403.
        McpRefusedError: A JSON-RPC error.
        FlowError: The network's and the guard's own errors.
    """
    refusals: list[TokenRefusedError] = []
    try:
        async with open_mcp_client(target, headers=headers, dpop=dpop, refusals=refusals) as client:
            return await operation(client)
    except FlowError:
        raise
    except Exception as error:
        raise _judged(error, refusals) from error


@asynccontextmanager
async def open_mcp_client(
    target: McpTarget,
    *,
    headers: Mapping[str, Secret],
    dpop: BoundToken | None = None,
    refusals: list[TokenRefusedError] | None = None,
) -> AsyncIterator[Client]:
    """Yield the SDK's client, connected in whichever era the server speaks.

    Errors while connecting are ours, as in `with_mcp_client`; errors of later calls are the SDK's own. `refusals`
    collects every 401 and 403.
    """
    from mcp import Client

    noticed = refusals if refusals is not None else []

    async def notice(response: httpx2.Response) -> None:
        if response.status_code in (401, 403):
            noticed.append(TokenRefusedError(response.status_code, response.headers.get("www-authenticate", "")))

    def client_of(era: str) -> Client:
        transport = with_result_types(_transport(target, headers=headers, dpop=dpop, notice=notice))
        return Client(transport, mode=era, read_timeout_seconds=target.timeout_seconds)

    async with AsyncExitStack() as stack:
        try:
            client = await _connected(client_of, target.url, stack=stack, refusals=noticed)
        except Exception as error:
            raise _judged(error, noticed) from error
        yield client


async def _connected(
    client_of: Callable[[str], Client], url: str, *, stack: AsyncExitStack, refusals: Sequence[TokenRefusedError]
) -> Client:
    """Connect in the old way where the server was known to need it; find out anew where that surprises. G-15."""
    if url in _OLDER:
        try:
            return await stack.enter_async_context(client_of("legacy"))
        except Exception:
            _OLDER.pop(url, None)
            if refusals:
                raise
    client = await stack.enter_async_context(client_of("auto"))
    if url and client.protocol_version < FIRST_MODERN:
        _OLDER[url] = True
    return client


def _transport(
    target: McpTarget,
    *,
    headers: Mapping[str, Secret],
    dpop: BoundToken | None,
    notice: Callable[[httpx2.Response], Awaitable[None]],
) -> AbstractAsyncContextManager[Any]:
    from mcp.client.sse import sse_client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    if target.transport == "stdio":
        environment = {name: value.reveal() for name, value in target.environment.items()}
        return stdio_client(StdioServerParameters(command=target.command, args=list(target.arguments), env=environment))
    opened = {name: value.reveal() for name, value in headers.items()}

    def client(
        headers: dict[str, str] | None = None, timeout: httpx2.Timeout | None = None, auth: httpx2.Auth | None = None
    ) -> httpx2.AsyncClient:
        http = guarded_http_client(headers=opened, timeout_seconds=target.timeout_seconds, dpop=dpop)
        http.event_hooks["response"].append(notice)
        return http

    if target.transport == "sse":
        return sse_client(target.url, httpx_client_factory=client, sse_read_timeout=target.timeout_seconds)
    return _streamable_http(target, client)


@asynccontextmanager
async def _streamable_http(target: McpTarget, client: Callable[[], httpx2.AsyncClient]) -> AsyncIterator[Any]:
    from mcp.client.streamable_http import streamable_http_client

    async with client() as http, streamable_http_client(target.url, http_client=http) as streams:
        yield streams


def _judged(error: Exception, refusals: Sequence[TokenRefusedError]) -> FlowError:
    from mcp.shared.exceptions import MCPError

    if refusals:
        return refusals[0]
    cause: BaseException = error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    chain: BaseException | None = cause
    while chain is not None:
        if isinstance(chain, FlowError):
            return chain
        chain = chain.__cause__ or chain.__context__
    if isinstance(cause, MCPError):
        return McpRefusedError(str(cause)[:_LONGEST_ANSWER])
    if isinstance(cause, TimeoutError | httpx2.TimeoutException):
        return ResponseTimeoutError("the MCP server took too long")
    if isinstance(cause, OSError | httpx2.HTTPError):
        return TransportError(f"the MCP server cannot be reached: {type(cause).__name__}")
    return MalformedResponseError(f"the MCP server's answer was not understood: {type(cause).__name__}")
