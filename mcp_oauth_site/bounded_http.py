"""HTTP/1.1 as the site reads it: heads and time are bounded, and what two readers may read differently is refused.

Spec: RFC 9112 §2.2, §3.2, §5.1, §5.2, §6.1, §6.3, §9.5, §11.2; RFC 9110 §15.5.9; security notes G04.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .checked_answer import CheckedAnswer
from .joined_writes import JoinedWrites

HEAD_BYTES: Final = 16 * 1024
REQUEST_SECONDS: Final = 60.0
"""A MiB takes half of that on a line of 0.3 Mbit/s."""
_VERSIONS: Final = ("1.1", "1.0")
_BEGINNINGS: Final = (b"/", b"*")
_TOO_LATE: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_CHUNKED: Final = (b"transfer-encoding", b"chunked")
_ONCE: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization", b"origin"})


class UnclearRequestError(Exception):
    """The parser makes it an error of the request: 400, and the connection is closed."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Refuses a head of more than 16 KiB, headers that count once and stand twice, and two ways to say a length.

    Addresses are paths only: no proxy speaks to us, RFC 9112 §3.2.2. A request that is not all there in time gets 408.

    Attributes:
        request_seconds: How long a request may take to come, from its first byte, or the connection, to its last byte.
    """

    # With more than 30 attributes in its dictionary, a connection would take a KiB more.
    __slots__ = (
        "_arrived_bytes", "_idle_since", "_is_in_head", "_is_whole", "_late", "_trailer_bytes", "_waiting_bytes",
        "_writes",
    )  # fmt: skip

    request_seconds = REQUEST_SECONDS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._trailer_bytes = self._waiting_bytes = self._arrived_bytes = 0
        self._is_in_head, self._is_whole = True, False
        self._late: asyncio.TimerHandle | None = None
        self._idle_since = float("inf")
        self._writes = JoinedWrites(cast("asyncio.Transport", transport))
        super().connection_made(cast("asyncio.Transport", self._writes))
        self._late = self.loop.call_later(self.request_seconds, self._refuse_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super()._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head = self._is_in_head
        self._arrived_bytes += len(data)
        super().data_received(data)
        if not self._is_in_head:
            self._arrived_bytes = 0
        # A name, value or address that has no end reaches no call-back below.
        if was_in_head and self._is_in_head:
            self._waiting_bytes += len(data)
            if self._waiting_bytes > 2 * HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("Invalid HTTP request received.")
        if not self._is_whole and self._late is None:
            self._late = self.loop.call_later(self.request_seconds, self._refuse_late)

    def on_message_begin(self) -> None:
        self._trailer_bytes = self._waiting_bytes = 0
        self._is_in_head, self._is_whole = True, False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._is_whole = True
        self._stop_waiting()
        super().on_message_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:
            self.headers.append((name.lower(), value))
        else:  # behind the body, where it says nothing about the request. RFC 9110 §6.5.1
            self._trailer_bytes += len(name) + len(value)
            if self._trailer_bytes > HEAD_BYTES:
                raise UnclearRequestError("an end that is too long")

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        version, headers = self.parser.get_http_version(), self.headers
        found = dict(headers)
        # It is not longer than all the pieces that it came in.
        if self._arrived_bytes > HEAD_BYTES and self._head_bytes() > HEAD_BYTES:
            raise UnclearRequestError("a head that is too long")
        if version not in _VERSIONS or not self.url.startswith(_BEGINNINGS) or b"#" in self.url:
            raise UnclearRequestError("another version, or an address that names a host besides the header")
        if len(found) != len(headers) and self._has_one_twice():
            raise UnclearRequestError("a header that counts once")
        if b"transfer-encoding" in found and (
            version == "1.0" or b"content-length" in found or _CHUNKED not in headers
        ):
            raise UnclearRequestError("two lengths, or a coding that nobody takes")
        self.expect_100_continue = b"expect" in found and found[b"expect"].lower() == b"100-continue"
        super().on_headers_complete()
        self.cycle.__class__ = CheckedAnswer  # uvicorn has no other way to choose it

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _has_one_twice(self) -> bool:
        names = [name for name, _ in self.headers]
        return any(names.count(name) > 1 for name in _ONCE)

    def on_response_complete(self) -> None:
        """As uvicorn's, with one timer for many requests: to make and cancel one each time costs as much as a head."""
        self._writes.flush()  # nothing else will join it
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._close_idle_after(self.timeout_keep_alive)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = float("inf")

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left <= 0:
            super().timeout_keep_alive_handler()
        elif self._idle_since < float("inf"):  # a request since, and its answer
            self._close_idle_after(left)

    def _close_idle_after(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse_late(self) -> None:
        """Whoever reads the body is told of a client that left."""
        self._late = None
        if self.pipeline:  # behind another request, and not read meanwhile
            self._late = self.loop.call_later(self.request_seconds, self._refuse_late)
        elif not self.transport.is_closing():
            if self._waiting_bytes if self._is_in_head else not self.cycle.response_started:
                self.transport.write(_TOO_LATE)
            self.transport.close()
