"""One kept HTTP/1.1 connection with one request in flight: what a load generator needs, and cheap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import urlsplit

_LENGTH = b"\r\ncontent-length:"
_CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"


class HttpConnection(asyncio.Protocol):
    """Understands answers with a Content-Length and those in chunks, of which it keeps the content together.

    Attributes:
        sent_at, marked_at: When the request went out, and when `mark` was first seen in the answer's body; monotonic.
    """

    def __init__(self, on_answer: Callable[[int, bytes], None], *, mark: bytes = b"") -> None:
        """`on_answer` gets status and body; status 0 and a reason where the connection ended instead."""
        self._on_answer, self._mark = on_answer, mark
        self._buffer, self._waits = b"", False
        self.sent_at = self.marked_at = 0.0
        self.head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waits:
            self._waits = False
            self._on_answer(0, f"the connection was closed: {exc}".encode())

    def send(self, request: bytes) -> None:
        """Send a whole request; the answer comes to `on_answer`."""
        self._waits, self.marked_at = True, 0.0
        self.sent_at = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        if not self.marked_at and self._mark in self._buffer[end:]:
            self.marked_at = time.perf_counter()
        self.head = self._buffer[: end + 2].lower()
        body = _content(self.head, self._buffer[end + 4 :])
        if body is not None:
            self._buffer, self._waits = b"", False
            self._on_answer(int(self.head[9:12]), body)


def _content(head: bytes, rest: bytes) -> bytes | None:
    """The whole body, or None while some of it has not come."""
    if _CHUNKED in head:
        return _joined(rest) if rest.endswith(b"0\r\n\r\n") else None
    at = head.find(_LENGTH)
    length = int(head[at + len(_LENGTH) : head.index(b"\r\n", at + 2)]) if at >= 0 else 0
    return rest[:length] if len(rest) >= length else None


def _joined(rest: bytes) -> bytes | None:
    parts = []
    while True:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            return b"".join(parts)
        if len(rest) < size + 2:
            return None
        parts.append(rest[:size])
        rest = rest[size + 2 :]


def request(method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Return a request as it goes over the wire."""
    parts = urlsplit(url)
    lines = [f"{method} {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def ask(connection: HttpConnection, data: bytes, *, seconds: float = 60) -> tuple[int, bytes]:
    """Send one request on its own and return status and body."""
    answered: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
    before = connection._on_answer
    connection._on_answer = lambda status, body: answered.set_result((status, body))
    connection.send(data)
    try:
        return await asyncio.wait_for(answered, seconds)
    finally:
        connection._on_answer = before
