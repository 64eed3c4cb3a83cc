"""Requests of the gateway: many at once, answers piece by piece, by connections whose addresses were judged.

It follows no redirect, keeps no cookie, takes nothing from the environment and unpacks nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ..protocol.errors import FlowError, MalformedResponseError, TransportError
from . import resolve
from .addresses import Allowance, require_url
from .guarded_connections import tls_context

_CONNECT_SECONDS: Final = 3.0
# Many servers close after 5 s; one that closes while a request is on its way to it would lose the request.
_KEPT_SECONDS: Final = 4.0
_LOOKED_UP_SECONDS: Final = 10
_LINE_BYTES: Final = 8 * 1024
_READ_BYTES: Final = 64 * 1024
_OWN: Final = (("User-Agent", "mcp-oauth-site"), ("Accept-Encoding", "identity"))
_SET_BY_CALLER: Final = ("Accept", "Content-Type")


class RelayedAnswer:
    """The beginning of an answer; its body is read piece by piece, as it comes."""

    __slots__ = ("_response", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status

    def header(self, name: str) -> str:
        """Return a header, empty if there is none; several lines of it are joined by commas. RFC 9110 §5.2."""
        values = self._response.headers.getall(name, ())
        return values[0] if len(values) == 1 else ", ".join(values)

    async def read_piece(self) -> bytes:
        """Return what has come since, waiting for at least one byte; empty at the end.

        Raises:
            TransportError: The connection broke before the end.
            MalformedResponseError: What came is not HTTP.
        """
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            failure = _verdict(error)
        raise failure

    def is_complete(self) -> bool:
        """Whether all of the body came, even if not all was read."""
        return self._response.content.at_eof()

    def close(self) -> None:
        """Let go of the connection: kept if the answer was read to its end, cut otherwise."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class RelayClient:
    """One pool of connections for the process. Belongs to the event loop that makes it."""

    def __init__(self) -> None:
        self._sessions = {"http": _session(plain=True), "https": _session(plain=False)}
        self._urls: dict[str, tuple[str, URL]] = {}

    async def send(
        self, method: str, url: str, *, headers: Sequence[tuple[str, str]], body: bytes | None
    ) -> RelayedAnswer:
        """Send a request and return when the head of its answer has come; how long that may take the caller decides.

        Args:
            method: POST, GET or DELETE.
            url: Of a configured server.
            headers: All that are sent, but for those about us and the connection.
            body: None for a request without one.

        Raises:
            BlockedUrlError: The server may not be reached.
            TransportError: There is no answer.
            MalformedResponseError: The answer is not HTTP, or its head too long.
        """
        scheme, target = self._urls.get(url) or self._judged(url)
        try:
            response = await self._sessions[scheme].request(
                method, target, headers=(*_OWN, *headers), data=body, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = _verdict(error)
        else:
            return RelayedAnswer(response)
        raise failure

    async def close(self) -> None:
        """Cut all connections."""
        for session in self._sessions.values():
            await session.close()

    def _judged(self, text: str) -> tuple[str, URL]:
        """Addresses are judged again whenever a connection is opened."""
        url = require_url(text, allowed=Allowance.current())
        if len(self._urls) > 1000:
            self._urls.clear()
        found = self._urls[text] = url.scheme, URL(url.origin + url.target, encoded=True)
        return found


class GuardedResolver(AbstractResolver):
    """Looks names up once, and gives addresses that were judged."""

    def __init__(self, *, plain: bool) -> None:
        self._plain = plain

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await asyncio.to_thread(
            resolve.resolve, host, port=port, plain=self._plain, seconds=_CONNECT_SECONDS
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _session(*, plain: bool) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        resolver=GuardedResolver(plain=plain),
        ttl_dns_cache=_LOOKED_UP_SECONDS,
        ssl=True if plain else tls_context(),
        limit=0,
        keepalive_timeout=_KEPT_SECONDS,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=None),
        skip_auto_headers=_SET_BY_CALLER,
        read_bufsize=_READ_BYTES,
        max_line_size=_LINE_BYTES,
        max_field_size=_LINE_BYTES,
    )


def _verdict(error: Exception) -> FlowError:
    if isinstance(error, aiohttp.ClientResponseError):
        return MalformedResponseError("the answer is not HTTP as we read it")
    return TransportError(f"no answer: {type(error).__name__}")
