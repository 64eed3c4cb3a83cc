"""HTTP/1.1 for the gateway: one request under way on a connection, its answer handed on piece by piece. RFC 9112.

A general client costs more than everything else that the gateway does for a call. This one writes a request, reads the
head of one answer and gives the rest as it comes; it unpacks nothing, follows nothing and keeps nothing.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

import httptools

from ..protocol.errors import FlowError, MalformedResponseError, TransportError
from .origin import Origin

HEAD_BYTES: Final = 32 * 1024
_WAITING_BYTES: Final = 64 * 1024
"""So much may wait for whoever reads; then the server is made to wait."""
_LENGTHS: Final = (b"content-length", b"transfer-encoding")


class RelayedAnswer:
    """The beginning of an answer; its body is read piece by piece, as it comes."""

    __slots__ = ("_arrived", "_failure", "_headers", "_is_complete", "_pieces", "_waiting", "_wire", "status")

    def __init__(self, wire: RelayWire, status: int, headers: dict[bytes, bytes]) -> None:
        self._wire, self.status, self._headers = wire, status, headers
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._is_complete = False
        self._failure: FlowError | None = None
        self._arrived: asyncio.Future[None] | None = None

    def header(self, name: bytes) -> bytes:
        """Return a header by its name in lower case; empty if there is none, several lines joined. RFC 9110 §5.2."""
        return self._headers.get(name, b"")

    async def read_piece(self) -> bytes:
        """Return what has come since, waiting for at least one byte; empty at the end.

        Raises:
            TransportError: The connection broke before the end.
            MalformedResponseError: What came is not HTTP.
        """
        while not self._pieces:
            if self._is_complete:
                return b""
            if self._failure is not None:
                raise self._failure
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._waiting = 0
        if not self._is_complete:
            self._wire.go_on()
        return piece

    def is_complete(self) -> bool:
        """Whether all of the body came and was read."""
        return self._is_complete and not self._pieces

    def close(self) -> None:
        """Want no more of it; a connection whose answer is not complete is cut."""
        if not self._is_complete:
            self._wire.cut()

    # ---- what the wire tells

    def arrive(self, piece: bytes) -> bool:
        """Take a piece; returns whether the server should wait."""
        self._pieces.append(piece)
        self._waiting += len(piece)
        self._wake()
        return self._waiting > _WAITING_BYTES

    def end(self, failure: FlowError | None = None) -> None:
        """No more will come."""
        self._is_complete, self._failure = failure is None, failure
        self._wake()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)


class RelayWire(asyncio.Protocol):
    """One connection."""

    def __init__(self, origin: Origin[RelayWire]) -> None:
        self._origin = origin
        self._transport: asyncio.Transport
        self._told: asyncio.Future[RelayedAnswer] | None = None
        self._answer: RelayedAnswer | None = None
        self._is_paused = self._has_ended = False
        self.idle_since = 0.0
        self.is_open = False

    def send(self, data: bytes) -> asyncio.Future[RelayedAnswer]:
        """Send a request, while no other one is under way; the future gets the answer, or why there is none.

        Raises:
            TransportError: The server has closed the connection meanwhile.
        """
        if not self.is_open:
            raise TransportError("the connection was closed before the request")
        self._bytes_beside_body = 0
        self._told = told = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return told

    def leave(self, told: asyncio.Future[RelayedAnswer]) -> None:
        """Nobody waits any more; where the answer is complete, the connection may be somebody else's by now."""
        if told.cancelled():
            self.cut()
        elif told.exception() is None:
            told.result().close()

    def go_on(self) -> None:
        """Let the server send again."""
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        self.is_open = False
        self._transport.close()

    def cut(self) -> None:
        """Close at once, so that the server learns that nobody waits."""
        self.is_open = False
        self._transport.abort()

    # ---- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)
        self.is_open = True
        self._origin.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._told is None and self._answer is None:  # nobody asked for this
            self.cut()
            return
        self._bytes_beside_body += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail(MalformedResponseError("the answer is not HTTP as we read it"))
        except httptools.HttpParserUpgrade:
            self._fail(MalformedResponseError("a change of protocol that nobody asked for"))
        else:
            if (self._told or self._answer) and self._bytes_beside_body > HEAD_BYTES:
                self._fail(MalformedResponseError("the head or the end of the answer is too long"))

    def eof_received(self) -> None:
        self.is_open, self._has_ended = False, True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._origin.closed(self)
        vars(self).pop("_parser", None)  # it holds our methods: both would wait for the garbage collector
        is_at_end = self._has_ended and exc is None
        if self._answer is not None and is_at_end and not any(self._answer.header(name) for name in _LENGTHS):
            self._complete()  # RFC 9112 §6.3: without a length, the body is what comes until the server's end
        else:
            self._fail(TransportError("the connection was closed before the end of the answer"))

    # ---- what the parser calls

    def on_message_begin(self) -> None:
        if self._told is None:  # a second answer to one request, which must not become the first to the next
            self.cut()
        self._headers: dict[bytes, bytes] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is not None:  # behind the body, where it says nothing about the answer. RFC 9110 §6.5.1
            return
        name, value = name.lower(), value.strip()
        self._headers[name] = b"%b, %b" % (self._headers[name], value) if name in self._headers else value

    def on_headers_complete(self) -> None:
        if sum(map(len, self._headers)) + sum(map(len, self._headers.values())) > HEAD_BYTES:
            raise MalformedResponseError("the head of the answer is too long")
        status = self._parser.get_status_code()
        if status >= 200 and self._told is not None:  # below: a preliminary answer
            told, self._told = self._told, None
            if told.done():  # whoever waited has gone
                self.cut()
                return
            self._answer = RelayedAnswer(self, status, self._headers)
            told.set_result(self._answer)

    def on_body(self, piece: bytes) -> None:
        self._bytes_beside_body = 0
        if self._answer is not None and self._answer.arrive(piece) and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._answer is not None:
            self._complete()

    def _complete(self) -> None:
        answer, self._answer = self._answer, None
        self.go_on()
        # A server that answers what it has not read may take the rest for the next request. RFC 9112 §9.3.
        was_sent = not self._transport.get_write_buffer_size()
        if self.is_open and was_sent and self._parser.should_keep_alive():
            self._origin.keep(self)
        elif self.is_open:
            self.close()
        if answer is not None:
            answer.end()

    def _fail(self, failure: FlowError) -> None:
        told, answer, self._told, self._answer = self._told, self._answer, None, None
        if self.is_open:
            self.cut()
        if told is not None and not told.done():
            told.set_exception(failure)
        if answer is not None:
            answer.end(failure)
