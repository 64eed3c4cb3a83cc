"""Many POST requests at once: one thread, one event loop, kept connections, the same guard."""

from __future__ import annotations

import asyncio
import queue
import socket
import ssl
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import aiohttp
import uvloop
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ..protocol.dpop import NonceAskedError
from ..protocol.errors import (
    BlockedUrlError,
    FlowError,
    MalformedResponseError,
    ResponseTimeoutError,
    TransportError,
)
from ..protocol.messages import Request, Response
from ..protocol.urls import ParsedUrl
from . import resolve
from .addresses import Address, Allowance, literal_address, require_url
from .blocking import require_no_transaction
from .guarded_connections import tls_context
from .limits import HEADER_BYTES, Limits
from .proofs import note_nonce, proved
from .signals import tell_request_done

_KEPT_SECONDS: Final = 15.0
_LONGEST_LINE: Final = 8190


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request. `was_sent` is false only where certainly nothing left this machine."""

    key: Hashable
    outcome: Response | FlowError
    seconds: float
    was_sent: bool = True


class Sender(Protocol):
    """Sends requests; each answer comes once, in any order."""

    def submit(self, key: Hashable, request: Request, *, not_after: float) -> None:
        """Send, unless the monotonic clock has passed `not_after` by then."""

    def next(self, *, seconds: float) -> Answer | None:
        """Return the next answer, or None where none comes in this time."""

    def close(self) -> None:
        """Close all connections; what is under way is abandoned."""


def open_sender(limits: Limits = Limits.REFRESH, *, step: str = "refresh") -> Sender:
    """Return what sends a batch; a test puts its own network here."""
    require_no_transaction()
    return TokenSender(limits, step=step)


class TokenSender:
    """aiohttp in a thread of its own. It follows no redirect, keeps no cookie, reads no environment."""

    def __init__(self, limits: Limits, *, step: str) -> None:
        self._limits, self._step = limits, step
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._loop = uvloop.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._resolvers = {
            "http": GuardedResolver(limits, plain=True),
            "https": GuardedResolver(limits, plain=False),
        }
        self._thread = threading.Thread(target=self._run, name="token-sender", daemon=True)
        self._thread.start()
        self._sessions: dict[str, aiohttp.ClientSession] = asyncio.run_coroutine_threadsafe(
            self._open(), self._loop
        ).result()

    def submit(self, key: Hashable, request: Request, *, not_after: float) -> None:
        self._loop.call_soon_threadsafe(self._start, key, request, not_after)

    def next(self, *, seconds: float) -> Answer | None:
        try:
            return self._answers.get(timeout=seconds) if seconds else self._answers.get_nowait()
        except queue.Empty:
            return None

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _open(self) -> dict[str, aiohttp.ClientSession]:
        return {scheme: _session(self._limits, resolver=resolver) for scheme, resolver in self._resolvers.items()}

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for session in self._sessions.values():
            await session.close()

    def _start(self, key: Hashable, request: Request, not_after: float) -> None:
        task = self._loop.create_task(self._exchange(key, request, not_after))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _exchange(self, key: Hashable, request: Request, not_after: float) -> None:
        started = time.monotonic()
        if started > not_after:
            late = ResponseTimeoutError("paused for too long after the claim; nothing was sent")
            self._answers.put(Answer(key, late, 0.0, was_sent=False))
            return
        outcome: Response | FlowError
        try:
            outcome = await self._sent(request)
        except FlowError as error:
            outcome = error
        seconds = time.monotonic() - started
        self._answers.put(Answer(key, outcome, seconds))
        failed = outcome if isinstance(outcome, FlowError) else None
        status = outcome.status if isinstance(outcome, Response) else None
        tell_request_done(self._step, status=status, error=failed, seconds=seconds)

    async def _sent(self, request: Request) -> Response:
        url = require_url(request.url, allowed=Allowance.current())
        failure: FlowError
        try:
            async with asyncio.timeout(self._limits.total_seconds):
                try:
                    return await self._received(proved(request), url)
                except NonceAskedError:
                    return await self._received(proved(request), url)
        except TimeoutError:
            failure = ResponseTimeoutError("no response in time")
        except FlowError:
            raise
        except (aiohttp.ClientError, ssl.SSLError, OSError, ValueError) as error:
            failure = _verdict(error)
        # Raised out here, so that nothing leads from it to objects that hold the request and its secrets.
        raise failure

    async def _received(self, request: Request, url: ParsedUrl) -> Response:
        if literal_address(url.host) is not None:
            self._resolvers[url.scheme].judged.add((url.host, url.port))  # `require_url` judged it
        headers = {"Content-Type": "application/x-www-form-urlencoded", **request.headers}
        async with self._sessions[url.scheme].request(
            request.method,
            URL(url.url, encoded=True),
            headers=headers,
            data=urlencode(dict(request.form or {})).encode("ascii") if request.content is None else request.content,
            allow_redirects=False,
        ) as answer:
            if not self._limits.max_bytes:
                return Response(answer.status, url=url.url, headers=_named(answer))
            if 300 <= answer.status < 400:
                raise MalformedResponseError(f"a redirect ({answer.status}) of a {request.method}, not followed")
            if answer.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
                raise MalformedResponseError("a compressed response, although none was asked for")
            body = bytearray()
            async for part in answer.content.iter_any():
                body += part
                if len(body) > self._limits.max_bytes:
                    raise MalformedResponseError(f"the response is larger than {self._limits.max_bytes} bytes")
            response = Response(answer.status, url=url.url, headers=_named(answer), body=bytes(body))
            note_nonce(response, request=request)
            return response


class GuardedResolver(AbstractResolver):
    """Look a name up, judge every answer, and remember which addresses may be connected to."""

    def __init__(self, limits: Limits, *, plain: bool) -> None:
        self._limits, self._plain = limits, plain
        self.judged: set[tuple[str, int]] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = await asyncio.to_thread(
            resolve.resolve, host, port=port, plain=self._plain, seconds=self._limits.connect_seconds
        )
        self.judged.update((str(address), port) for address in addresses)
        return [_resolved(address, host=host, port=port) for address in addresses]

    async def close(self) -> None:
        """Nothing is open."""

    def open_socket(self, address: Any) -> socket.socket:
        """Make the socket for an address that was judged; aiohttp asks no resolver about a literal one.

        Raises:
            BlockedUrlError: It was not.
        """
        family, kind, protocol, _, (host, port, *_rest) = address
        if (host, port) not in self.judged:
            raise BlockedUrlError("an address that nobody judged")
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened


def _session(limits: Limits, *, resolver: GuardedResolver) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        resolver=resolver,
        socket_factory=resolver.open_socket,
        ssl=tls_context(),
        limit=0,
        keepalive_timeout=_KEPT_SECONDS,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        headers={"User-Agent": "mcp-oauth-site", "Accept": "application/json", "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(sock_connect=limits.connect_seconds),
        max_line_size=_LONGEST_LINE,
        max_field_size=HEADER_BYTES // 4,
    )


def _named(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): ", ".join(answer.headers.getall(name)) for name in answer.headers}


def _resolved(address: Address, *, host: str, port: int) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=str(address),
        port=port,
        family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST,
    )


def _verdict(error: Exception) -> FlowError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, FlowError):
            return cause
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, aiohttp.ClientConnectionError) and not isinstance(error, aiohttp.ServerDisconnectedError):
        return TransportError(f"no response: {type(error).__name__}")
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError | ValueError):
        return MalformedResponseError("the response is not HTTP as we read it")
    return TransportError(f"no response: {type(error).__name__}")
