"""Requests of the gateway: many at once, by kept connections to addresses that were judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias

from ..protocol.errors import MalformedResponseError
from .addresses import Allowance, require_url
from .origin import Origin
from .relay_wire import RelayedAnswer, RelayWire

__all__ = ["RelayClient", "RelayedAnswer", "ServerAnswer", "header_lines"]

_CONNECT_SECONDS: Final = 3.0
# Many servers close after 5 s; one that closes while a request is on its way to it would lose the request.
_KEPT_SECONDS: Final = 4.0
_MOST_ADDRESSES: Final = 1000
RawHeader: TypeAlias = tuple[bytes, bytes]


class ServerAnswer(Protocol):
    """The beginning of an answer, and its body piece by piece; see `RelayedAnswer`."""

    status: int

    def header(self, name: bytes) -> bytes:
        """Return a header by its name in lower case, empty if there is none."""

    async def read_piece(self) -> bytes:
        """Return what has come since; empty at the end."""

    def is_complete(self) -> bool:
        """Whether all of the body came and was read."""

    def close(self) -> None:
        """Want no more of it."""


class _Place(NamedTuple):
    """A server's address: its connections, and what every request there begins with after the method."""

    origin: Origin[RelayWire]
    beginning: bytes


class RelayClient:
    """One pool of connections for the process. Belongs to the event loop that uses it."""

    def __init__(self) -> None:
        self._origins: dict[str, Origin[RelayWire]] = {}
        self._places: dict[str, _Place] = {}

    async def send(
        self, method: str, url: str, *, headers: Sequence[RawHeader], lines: bytes = b"", body: bytes | None
    ) -> RelayedAnswer:
        """Send a request and return when the head of its answer has come; how long that may take the caller decides.

        Args:
            method: POST, GET or DELETE.
            url: Of a configured server.
            headers: All that are sent, but for those about us and the connection; printable ASCII.
            lines: Further ones, as `header_lines` wrote them.
            body: None for a request without one.

        Raises:
            BlockedUrlError: The server may not be reached.
            TransportError: There is no answer.
            MalformedResponseError: The answer is not HTTP, or its head too long; or a header could not be sent.
        """
        place = self._places.get(url) or self._judged(url)
        data = _as_bytes(method, place, lines=lines + header_lines(headers), body=body)
        wire = place.origin.idle_wire() or await place.origin.new_wire()
        told = wire.send(data)
        try:
            return await told
        except BaseException:  # whoever waited has gone
            wire.leave(told)
            raise

    async def close(self) -> None:
        """Cut all connections."""
        for origin in self._origins.values():
            origin.close()

    def _judged(self, text: str) -> _Place:
        """Addresses are judged again whenever a connection is opened."""
        url = require_url(text, allowed=Allowance.current())
        origin = self._origins.get(url.origin)
        if origin is None:
            origin = self._origins[url.origin] = Origin(
                url, connect_seconds=_CONNECT_SECONDS, kept_seconds=_KEPT_SECONDS, make=RelayWire
            )
        if len(self._places) >= _MOST_ADDRESSES:
            self._places.clear()
        own = f"Host: {url.authority}\r\nUser-Agent: mcp-oauth-site\r\nAccept-Encoding: identity\r\n"
        found = self._places[text] = _Place(origin, f"{url.target} HTTP/1.1\r\n{own}".encode("ascii"))
        return found


def header_lines(headers: Sequence[RawHeader]) -> bytes:
    """Return headers as they are sent.

    Raises:
        MalformedResponseError: One of them cannot be.
    """
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers) or not lines.isascii():
        raise MalformedResponseError("a header that cannot be sent")
    return lines


def _as_bytes(method: str, place: _Place, *, lines: bytes, body: bytes | None) -> bytes:
    head = b"%b %b%b" % (method.encode("ascii"), place.beginning, lines)
    return head + (b"\r\n" if body is None else b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
