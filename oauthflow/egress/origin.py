"""The kept connections to one server, to addresses that were judged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar, cast

from ..protocol.errors import TransportError
from ..protocol.urls import ParsedUrl
from . import resolve
from .addresses import Address
from .guarded_connections import tls_context

_LOOKED_UP_SECONDS: Final = 10.0


class Kept(Protocol):
    """A connection that can be used again."""

    idle_since: float
    is_open: bool

    def close(self) -> None:
        """End it."""

    def cut(self) -> None:
        """End it without saying goodbye."""


K = TypeVar("K", bound=Kept)


class Origin(Generic[K]):
    """The connections to one scheme, host and port.

    Args:
        url: Where.
        connect_seconds: How long the look-up and the connection may take together.
        kept_seconds: How long one may be idle.
        make: Makes the protocol of a new connection, which says `opened`, `closed` and `keep`.
    """

    def __init__(
        self,
        url: ParsedUrl,
        *,
        connect_seconds: float,
        kept_seconds: float,
        make: Callable[[Origin[K]], K],
    ) -> None:
        self._url, self._connect_seconds, self._kept_seconds, self._make = url, connect_seconds, kept_seconds, make
        self._idle: list[K] = []
        self._open: set[K] = set()
        self._lookup: asyncio.Task[list[Address]] | None = None
        self._lookup_until = 0.0
        self._cleaning: asyncio.TimerHandle | None = None

    def idle_wire(self) -> K | None:
        """Return a connection that is open and was used a moment ago, the last one first."""
        while self._idle:
            wire = self._idle.pop()
            if self._is_usable(wire):
                return wire
            wire.close()
        return None

    async def new_wire(self) -> K:
        """Connect to one of the host's addresses.

        Raises:
            BlockedUrlError: The host may not be reached.
            TransportError: No address of it answers.
        """
        loop, plain = asyncio.get_running_loop(), self._url.scheme == "http"
        until = time.monotonic() + self._connect_seconds
        addresses, failure = await self._addresses(), ""
        for tried, address in enumerate(addresses):
            # A share of the time for each, so that a dead first address leaves some for the next.
            share = max(0.0, until - time.monotonic()) / (len(addresses) - tried)
            try:
                async with asyncio.timeout(share):
                    _, wire = await loop.create_connection(
                        lambda: cast("asyncio.Protocol", self._make(self)),
                        str(address),
                        self._url.port,
                        ssl=None if plain else tls_context(),
                        server_hostname=None if plain else self._url.host,
                    )
            except OSError as error:  # a refused certificate and a timeout are among them
                failure = type(error).__name__
            else:
                return cast("K", wire)
        raise TransportError(f"no response: {failure}")

    def keep(self, wire: K) -> None:
        """Take a connection back whose response is complete."""
        wire.idle_since = time.monotonic()
        self._idle.append(wire)
        if self._cleaning is None:
            self._close_unused()

    def opened(self, wire: K) -> None:
        self._open.add(wire)

    def closed(self, wire: K) -> None:
        self._open.discard(wire)

    def close(self) -> None:
        """Cut all connections, whatever is under way on them."""
        for wire in tuple(self._open):
            wire.cut()

    def _is_usable(self, wire: K) -> bool:
        return wire.is_open and time.monotonic() - wire.idle_since < self._kept_seconds

    def _close_unused(self) -> None:
        """Those that nobody came back for: the last used is taken first, and nobody else looks at the others."""
        unused = [wire for wire in self._idle if not self._is_usable(wire)]
        for wire in unused:
            self._idle.remove(wire)
            wire.close()
        loop = asyncio.get_running_loop()
        self._cleaning = loop.call_later(self._kept_seconds, self._close_unused) if self._idle else None

    async def _addresses(self) -> list[Address]:
        """One look-up for all who connect at the same time; every answer was judged."""
        if self._lookup is None or time.monotonic() > self._lookup_until:
            looked_up = asyncio.to_thread(
                resolve.resolve,
                self._url.host,
                port=self._url.port,
                plain=self._url.scheme == "http",
                seconds=self._connect_seconds,
            )
            self._lookup = asyncio.ensure_future(looked_up)
            self._lookup_until = time.monotonic() + _LOOKED_UP_SECONDS
        return await asyncio.shield(self._lookup)
