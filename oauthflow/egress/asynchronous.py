"""The guarded HTTP client for the official MCP SDK, made of httpx2's and httpcore2's public parts."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final

import anyio
import httpcore2
import httpx2

from ..protocol.errors import BlockedUrlError, FlowError, MalformedResponseError, ResponseTimeoutError, TransportError
from ..protocol.urls import ParsedUrl
from ..spans import span
from . import resolve
from .addresses import Allowance, require_url
from .blocking import require_no_transaction
from .bound_token import BoundToken, ProvingTransport
from .guarded_connections import tls_context
from .limits import HEADER_BYTES, Budget, Limits
from .signals import tell_request_done

_USER_AGENT: Final = "mcp-oauth-site"
_EVENT_STREAM: Final = "text/event-stream"
_STEP: Final = "mcp"


def transport(limits: Limits = Limits.MCP) -> httpx2.AsyncBaseTransport:
    """Return what carries the SDK's requests out; a test puts its own network here."""
    return GuardedTransport(limits)


def guarded_http_client(
    *, headers: Mapping[str, str], timeout_seconds: float, dpop: BoundToken | None = None
) -> httpx2.AsyncClient:
    """Make the client for `mcp.client.streamable_http.streamable_http_client(url, http_client=...)`.

    It follows no redirects itself; the SDK follows those within the origin, and each comes through the guard again.
    Nothing is taken from the environment.

    Args:
        headers: Sent with every request; the credentials among them.
        timeout_seconds: For a whole response, and for each wait within an event stream.
        dpop: A token that every request has to prove anew.

    Raises:
        RuntimeError: A database transaction is open.
    """
    carrier = transport() if dpop is None else ProvingTransport(transport(), dpop)
    return _client(headers, httpx2.Timeout(timeout_seconds), carrier=carrier)


def guarded_client_factory(
    headers: dict[str, str] | None = None,
    timeout: httpx2.Timeout | None = None,
    auth: httpx2.Auth | None = None,
) -> httpx2.AsyncClient:
    """Make the client in the form that `mcp.client.sse.sse_client(url, httpx_client_factory=...)` asks for.

    Raises:
        RuntimeError: A database transaction is open.
    """
    return _client(headers, timeout, auth=auth, carrier=transport())


def _client(
    headers: Mapping[str, str] | None,
    timeout: httpx2.Timeout | None,
    *,
    auth: httpx2.Auth | None = None,
    carrier: httpx2.AsyncBaseTransport,
) -> httpx2.AsyncClient:
    require_no_transaction()
    # Nothing compressed: httpx2 decompresses above the transport, where no limit counts.
    fixed = {"User-Agent": _USER_AGENT, **(headers or {}), "Accept-Encoding": "identity"}
    return httpx2.AsyncClient(
        headers=fixed,
        timeout=timeout or httpx2.Timeout(Limits.MCP.total_seconds),
        auth=auth,
        transport=carrier,
        trust_env=False,
        follow_redirects=False,
    )


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Judge the URL, then send by connections whose addresses were judged.

    Raises `FlowError` alone: a blocked address, no response, or a response too large or compressed.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pools = {"http": _pool(limits, plain=True), "https": _pool(limits, plain=False)}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        started = time.monotonic()
        status: int | None = None
        failure: BaseException | None = None
        with span(f"request: {_STEP}", outgoing=True, http__request__method=request.method) as current:
            try:
                response = await self._sent(request)
                status = response.status_code
                current.set_attribute("http.response.status_code", status)
                return response
            except BaseException as error:
                failure = error
                raise
            finally:
                tell_request_done(_STEP, status=status, error=failure, seconds=time.monotonic() - started)

    async def _sent(self, request: httpx2.Request) -> httpx2.Response:
        url = require_url(str(request.url), allowed=Allowance.current())
        timeouts = request.extensions.get("timeout", {})
        seconds = timeouts.get("read") or self._limits.total_seconds
        budget = Budget(self._limits, seconds=seconds)
        try:
            # A deadline of our own around it all: httpcore2's starts again with every read of the headers.
            with anyio.fail_after(seconds):
                response = await self._pools[url.scheme].handle_async_request(_outgoing(request, url=url))
        except (TimeoutError, httpcore2.TimeoutException):
            failure: FlowError = ResponseTimeoutError(f"no response within {seconds:g} s")
        except (httpcore2.NetworkError, httpcore2.ProtocolError, ssl.SSLError, OSError) as error:
            failure = _verdict(error)
        else:
            return await _incoming(response, budget=budget)
        raise failure

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Open sockets only to addresses that were judged."""

    def __init__(self, limits: Limits, *, plain: bool) -> None:
        self._limits = limits
        self._plain = plain
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        seconds = min(timeout or self._limits.connect_seconds, self._limits.connect_seconds)
        budget = Budget(self._limits, seconds=seconds)
        addresses = await anyio.to_thread.run_sync(
            lambda: resolve.resolve(host, port=port, plain=self._plain, seconds=seconds)
        )
        for tried, address in enumerate(addresses):
            share = budget.seconds(seconds) / (len(addresses) - tried)
            try:
                return await self._sockets.connect_tcp(str(address), port, timeout=share)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        raise TransportError("no address of the host could be connected to")

    async def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        raise BlockedUrlError("a local socket")

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class MeteredStream(httpx2.AsyncByteStream):
    """A response body that ends with the size allowed, and, unless it is an event stream, with the deadline."""

    def __init__(self, parts: Any, *, budget: Budget, endless: bool) -> None:
        self._parts = parts
        self._budget = budget
        self._endless = endless

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        source = aiter(self._parts)
        while (part := await self._next(source)) is not None:
            received += len(part)
            self._budget.require_size(received)
            yield part

    async def aclose(self) -> None:
        await self._parts.aclose()

    async def _next(self, source: AsyncIterator[bytes]) -> bytes | None:
        try:
            with anyio.fail_after(None if self._endless else self._budget.seconds(self._budget.limits.total_seconds)):
                return await anext(source, None)
        except (TimeoutError, httpcore2.TimeoutException):
            failure: FlowError = ResponseTimeoutError("no complete response in time")
        except (httpcore2.NetworkError, httpcore2.ProtocolError, ssl.SSLError, OSError) as error:
            failure = _verdict(error)
        raise failure


def _pool(limits: Limits, *, plain: bool) -> httpcore2.AsyncConnectionPool:
    return httpcore2.AsyncConnectionPool(
        ssl_context=tls_context(),
        network_backend=GuardedBackend(limits, plain=plain),
        keepalive_expiry=5.0,
        http1=True,
        http2=False,
        retries=0,
    )


def _outgoing(request: httpx2.Request, *, url: ParsedUrl) -> httpcore2.Request:
    # What is dialled comes out of our own parser, not out of httpx2's.
    host = f"[{url.host}]" if ":" in url.host else url.host
    return httpcore2.Request(
        method=request.method,
        url=httpcore2.URL(scheme=url.scheme, host=host, port=url.port, target=url.target),
        headers=request.headers.raw,
        content=request.stream,
        extensions={"timeout": request.extensions.get("timeout", {})},
    )


async def _incoming(response: httpcore2.Response, *, budget: Budget) -> httpx2.Response:
    headers = httpx2.Headers(response.headers)
    try:
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise MalformedResponseError("a compressed response, although none was asked for")
        budget.require_size(sum(len(name) + len(value) for name, value in response.headers), extra=HEADER_BYTES)
    except FlowError:
        await response.aclose()
        raise
    endless = headers.get("content-type", "").partition(";")[0].strip().lower() == _EVENT_STREAM
    stream = MeteredStream(response.stream, budget=budget, endless=endless)
    return httpx2.Response(response.status, headers=headers, stream=stream, extensions=response.extensions)


def _verdict(error: Exception) -> FlowError:
    # It wraps the parser's complaint, unless the server said nothing at all.
    if isinstance(error, httpcore2.RemoteProtocolError) and isinstance(error.args[0], Exception):
        return MalformedResponseError("the response is not HTTP")
    return TransportError(f"no response: {type(error).__name__}")
