"""HTTP/1.1 for small POST requests: kept connections to addresses that were judged, one request under way on each.

A general client costs as much as everything else that a refresh does. This one sends a body, reads one response, and
refuses what it does not need: redirects, a change of protocol. It reads what `blocking` reads as well: a server that
somebody could sign in to is not to spend a refresh token for an answer that is thrown away. RFC 9112.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable
from typing import Final, cast

import httptools

from ..protocol.errors import AnswerLostError, FlowError, MalformedResponseError
from ..protocol.messages import Response
from ..protocol.urls import ParsedUrl
from .limits import HEADER_BYTES, Limits
from .origin import Origin

Told = Callable[[Response | FlowError], None]

_KEPT_SECONDS: Final = 15.0
_COMPRESSED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS
_BLANK_LINE: Final = re.compile(rb"\r?\n\r?\n")
_LENGTHS: Final = re.compile(rb"^content-length[ \t]*:([\d, \t]+)\r?\n", re.IGNORECASE | re.MULTILINE)


def token_origin(url: ParsedUrl, limits: Limits) -> Origin[Wire]:
    """Return the connections to the server of a token endpoint."""
    return Origin(
        url,
        connect_seconds=limits.connect_seconds,
        kept_seconds=_KEPT_SECONDS,
        make=lambda origin: Wire(origin, limits),
    )


class Wire(asyncio.Protocol):
    """One connection. Each request is told once what became of it."""

    def __init__(self, origin: Origin[Wire], limits: Limits) -> None:
        self._origin, self._limits = origin, limits
        self._transport: asyncio.Transport
        self._told: Told | None = None
        self.idle_since = 0.0
        self.is_open = False

    def send(self, head_and_body: bytes, *, url: str, told: Told) -> None:
        """Send a request, while no other one is under way."""
        self._url, self._told = url, told
        self._parser = httptools.HttpResponseParser(self)
        # Many servers end lines with a bare LF, or give a length beside the chunks; the answer may hold the only valid
        # token.
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
            lenient_chunked_length=True,
            lenient_headers=True,
        )
        self._received, self._head = 0, bytearray()
        self._is_head_whole = self._is_body_reached = False
        self._transport.write(head_and_body)

    def abandon(self, reason: FlowError) -> None:
        """Stop waiting; a response that still comes belongs to nobody."""
        self._finish(reason)

    def close(self) -> None:
        self.is_open = False
        self._transport.close()

    def cut(self) -> None:
        """Close without saying goodbye."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True
        self._origin.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._told is None:  # nobody asked for this
            self.close()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(self._with_whole_head(data))
        except httptools.HttpParserError:
            self._finish(MalformedResponseError("the response is not HTTP as we read it"))
        except httptools.HttpParserUpgrade:
            self._finish(MalformedResponseError("a change of protocol that nobody asked for"))
        if self._received > self._limits.max_bytes + HEADER_BYTES:
            self._finish(_too_large(self._limits))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._origin.closed(self)
        if self._told is None:
            return
        if not self._received:
            self._finish(AnswerLostError("no response: the connection was closed"))
        elif self._ends_with_connection():
            self._complete()
        else:
            self._finish(MalformedResponseError("the response ended too early"))

    def _with_whole_head(self, data: bytes) -> bytes:
        """Return what the parser may read by now: the first head at once, without what it would stumble over."""
        if self._is_head_whole:
            return data
        seen = len(self._head)
        self._head += data
        blank = _BLANK_LINE.search(self._head, max(0, seen - 3))
        if blank is None and b"HTTP/".startswith(self._head[:5]):
            return b""
        self._is_head_whole, end = True, blank.end() if blank else len(self._head)
        return _with_one_length(bytes(self._head[:end])) + self._head[end:]

    # ---- what the parser calls

    def on_message_begin(self) -> None:
        if self._told is None:  # a second response to one request
            self.close()
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._is_body_reached = False

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        self._is_body_reached = True
        if not self._limits.max_bytes and self._parser.get_status_code() >= 200:
            self._finish(Response(self._parser.get_status_code(), url=self._url, headers=self._headers))

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:  # else a preliminary response
            self._complete()

    def _ends_with_connection(self) -> bool:
        """RFC 9112 §6.3: without chunks or a length, which a coding overrides, the body is what comes until the end."""
        if not self._is_body_reached:
            return False
        coding = self._headers.get("transfer-encoding", "")
        return "chunked" not in coding.lower() if coding else "content-length" not in self._headers

    def _has_two_lengths(self) -> bool:
        """RFC 9112 §6.3: nobody else's answer is read from a connection whose messages end in two ways."""
        return self._headers.keys() >= {"content-length", "transfer-encoding"}

    def _complete(self) -> None:
        status = self._parser.get_status_code()
        if 300 <= status < 400:
            self._finish(MalformedResponseError(f"a redirect ({status}) of a POST, not followed"))
        else:
            self._finish(self._whole(status))

    def _whole(self, status: int) -> Response | FlowError:
        try:
            body = _unpacked(bytes(self._body), self._headers.get("content-encoding", ""), most=self._limits.max_bytes)
        except zlib.error:
            return MalformedResponseError("a compressed response that does not decode")
        if len(body) > self._limits.max_bytes:
            return _too_large(self._limits)
        return Response(status, url=self._url, headers=self._headers, body=body)

    def _finish(self, outcome: Response | FlowError) -> None:
        told, self._told = self._told, None
        is_read = isinstance(outcome, Response) and bool(self._limits.max_bytes)
        if is_read and self.is_open and self._parser.should_keep_alive() and not self._has_two_lengths():
            self._origin.keep(self)
        else:
            self.close()
        if told is not None:
            told(outcome)


def _with_one_length(head: bytes) -> bytes:
    """RFC 9110 §8.6: a length that is said twice, and the same, is one; the parser takes no second one."""
    said = {length.strip() for line in _LENGTHS.findall(head) for length in line.split(b",")}
    if len(said) != 1:
        return head
    once = iter((b"Content-Length: %b\r\n" % said.pop(),))
    return _LENGTHS.sub(lambda _: next(once, b""), head)


def _unpacked(body: bytes, coding: str, *, most: int) -> bytes:
    """Undo a compression that nobody asked for, up to one byte too many. Any other word there says nothing."""
    if coding.lower() not in _COMPRESSED:
        return body
    try:
        return _inflated(body, _ZLIB_OR_GZIP, most=most)
    except zlib.error:
        if coding.lower() != "deflate":
            raise
        return _inflated(body, -zlib.MAX_WBITS, most=most)  # what many servers mean by it


def _inflated(body: bytes, bits: int, *, most: int) -> bytes:
    """Read one member after the other; what stands behind a whole one and is none does not count."""
    read = b""
    while body and len(read) <= most:
        member = zlib.decompressobj(bits)
        try:
            read += member.decompress(body, most + 1 - len(read))
        except zlib.error:
            if not read:
                raise
            break
        body = member.unused_data
    return read


def _too_large(limits: Limits) -> MalformedResponseError:
    return MalformedResponseError(f"the response is larger than {limits.max_bytes} bytes")
