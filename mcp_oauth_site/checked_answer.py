"""The head of an answer: each header is checked by uvicorn's rules and written once for all answers that bring it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

_WITHOUT_BODY: Final = (204, 304)
_BYTES: Final = [bytes([number]) for number in range(256)]
# Taking these out is several times quicker than to search for others.
_IN_NAMES: Final = b"".join([byte for byte in _BYTES if not HEADER_RE.search(byte)])
_IN_VALUES: Final = b"".join([byte for byte in _BYTES if not HEADER_VALUE_RE.search(byte)])
_OF_THE_CONNECTION: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_NOT_KEPT: Final = frozenset({b"content-length", b"x-request-id", b"mcp-session-id", b"set-cookie", b"location"})
"""Others each time, or a secret."""


def _written(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """Return a header as it is sent, and its name in lower case if it says how the answer is sent."""
    name, value = header
    if name.translate(None, _IN_NAMES) or value.translate(None, _IN_VALUES):
        raise RuntimeError("The answer has a header that is none.")
    lower = name.lower()
    return b"%b: %b\r\n" % header, lower if lower in _OF_THE_CONNECTION else b""


_line: Final = lru_cache(maxsize=500)(_written)


class CheckedAnswer(RequestResponseCycle):
    """One request and its answer. Adds nothing to what uvicorn keeps of them, so that any of its own can become one."""

    async def receive(self) -> Any:
        """Return a message of ASGI."""
        if self.more_body or self.disconnected or self.response_complete or not self.message_event.is_set():
            return await super().receive()
        # All of it is here, and nobody has it yet.
        self.message_event.clear()
        self.flow.resume_reading()
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Any) -> None:
        """Take a message of ASGI."""
        if self.response_started or self.flow.write_paused or self.disconnected:
            await super().send(message)
        elif message["type"] != "http.response.start":
            raise RuntimeError(f"The answer begins with {message['type']}.")
        else:
            self.response_started, self.waiting_for_100_continue = True, False
            self.transport.write(self._head(message["status"], [*self.default_headers, *message.get("headers", ())]))

    def _head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        lines, found = [STATUS_LINE[status]], {}
        for header in headers:
            line, name = _line(header) if header[0].lower() not in _NOT_KEPT else _written(header)
            lines.append(line)
            if name:
                found[name] = header[1]
        if b"content-length" in found:
            self.expected_content_length, self.chunked_encoding = int(found[b"content-length"]), False
        elif self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY:
            self.chunked_encoding = True
            if b"transfer-encoding" not in found:
                lines.append(b"transfer-encoding: chunked\r\n")
        if b"close" in found.get(b"connection", b"").lower():
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close\r\n")
        return b"%b\r\n" % b"".join(lines)
