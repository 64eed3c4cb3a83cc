"""The head of an answer, with all its headers checked at once, by the rules by which uvicorn checks each alone."""

from __future__ import annotations

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

_WITHOUT_BODY: Final = (204, 304)


class CheckedAnswer(RequestResponseCycle):
    """One request and its answer. Adds nothing to what uvicorn keeps of them, so that any of its own can become one."""

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
        found = {name.lower(): value for name, value in headers}
        if HEADER_RE.search(b"".join(found)) or HEADER_VALUE_RE.search(b"".join([value for _, value in headers])):
            raise RuntimeError("The answer has a header that is none.")
        lines = [STATUS_LINE[status], *[b"%b: %b\r\n" % header for header in headers]]
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
