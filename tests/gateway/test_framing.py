"""Requests that two readers may read differently, byte by byte against the server of the site: none goes on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mcp_oauth_site import checked_answer
from mcp_oauth_site.bounded_http import BoundedHttpProtocol
from mcp_oauth_site.serve import OPTIONS
from tests.requirements import requirement

from .front import Front, legacy_call
from .upstream import answers, streams
from .wire import BODY, ORDINARY, Wire, listening

LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"28\r\n" + BODY + b"\r\n0\r\n\r\n"
LINE = b"POST /mcp/files HTTP/1.1\r\n"
SMUGGLED = b"POST /mcp/files HTTP/1.1\r\n" + ORDINARY + LENGTH + b"\r\n" + BODY


def _head(*lines: bytes, line: bytes = LINE, ordinary: bytes = ORDINARY) -> bytes:
    return line + ordinary + b"".join(lines) + b"\r\n"


def _without(name: bytes, instead: bytes = b"") -> bytes:
    lines = [line for line in ORDINARY.split(b"\r\n") if line and not line.startswith(name)]
    return b"".join(line + b"\r\n" for line in lines) + instead


FRAMES = {
    "length and chunks": _head(LENGTH, b"Transfer-Encoding: chunked\r\n") + CHUNKED,
    "chunks and length": _head(b"Transfer-Encoding: chunked\r\n", LENGTH) + CHUNKED,
    "length nought and chunks": _head(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n") + CHUNKED + SMUGGLED,
    "two lengths": _head(LENGTH, b"Content-Length: 3\r\n") + BODY,
    "two equal lengths": _head(LENGTH, LENGTH) + BODY,
    "a list of lengths": _head(b"Content-Length: 40, 40\r\n") + BODY,
    "a length with a sign": _head(b"Content-Length: +40\r\n") + BODY,
    "a negative length": _head(b"Content-Length: -1\r\n") + BODY,
    "a hexadecimal length": _head(b"Content-Length: 0x28\r\n") + BODY,
    "a length with a space": _head(b"Content-Length: 4 0\r\n") + BODY,
    "a length beyond 64 bits": _head(b"Content-Length: 18446744073709551657\r\n") + BODY,
    "no number as a length": _head(b"Content-Length: many\r\n") + BODY,
    "an empty length": _head(b"Content-Length:\r\n") + BODY,
    "an unknown coding": _head(b"Transfer-Encoding: xchunked\r\n") + CHUNKED,
    "chunks that are not last": _head(b"Transfer-Encoding: chunked, identity\r\n") + CHUNKED,
    "packed chunks": _head(b"Transfer-Encoding: gzip, chunked\r\n") + CHUNKED,
    "two codings": _head(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n") + CHUNKED,
    "the same coding twice": _head(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n") + CHUNKED,
    "chunks with a vertical tab": _head(b"Transfer-Encoding: \x0bchunked\r\n") + CHUNKED,
    "chunks in quotes": _head(b'Transfer-Encoding: "chunked"\r\n') + CHUNKED,
    "a space before the colon": _head(b"Transfer-Encoding : chunked\r\n", LENGTH) + CHUNKED,
    "chunks of HTTP/1.0": _head(b"Transfer-Encoding: chunked\r\n", line=LINE.replace(b"1.1", b"1.0")) + CHUNKED,
    "a folded coding": _head(b"Transfer-Encoding:\r\n chunked\r\n", LENGTH) + CHUNKED,
    "a folded token": _head(LENGTH, ordinary=_without(b"Auth", b"Authorization: Bearer\r\n alice\r\n")) + BODY,
    "a first header that is folded": LINE + b" X: y\r\n" + ORDINARY + LENGTH + b"\r\n" + BODY,
    "a NUL in a value": _head(b"X-Note: a\x00b\r\n", LENGTH) + BODY,
    "a NUL in a name": _head(b"X\x00Note: a\r\n", LENGTH) + BODY,
    "a NUL in the address": _head(LENGTH, line=b"POST /mcp/files\x00 HTTP/1.1\r\n") + BODY,
    "a bare CR in a value": _head(b"X-Note: a\rTransfer-Encoding: chunked\r\n", LENGTH) + BODY,
    "a bare CR as a line end": LINE.replace(b"\r\n", b"\r") + ORDINARY + LENGTH + b"\r\n" + BODY,
    "bare LF as line ends": (LINE + ORDINARY + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "a bare LF before a header": _head(b"X-Note: a\nX-Other: b\r\n", LENGTH) + BODY,
    "a control character in a value": _head(b"X-Note: a\x07b\r\n", LENGTH) + BODY,
    "HTTP/0.9": b"GET /mcp/files\r\n\r\n",
    "HTTP/0.9 with a body": b"POST /mcp/files\r\n" + ORDINARY + LENGTH + b"\r\n" + BODY,
    "HTTP/3.7": _head(LENGTH, line=b"POST /mcp/files HTTP/3.7\r\n") + BODY,
    "no version": _head(LENGTH, line=b"POST /mcp/files HTTP/\r\n") + BODY,
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": _head(LENGTH, ordinary=_without(b"Host")) + BODY,
    "an empty host": _head(LENGTH, ordinary=_without(b"Host", b"Host:\r\n")) + BODY,
    "two hosts": _head(b"Host: testserver\r\n", LENGTH) + BODY,
    "two hosts in one": _head(LENGTH, ordinary=_without(b"Host", b"Host: testserver, evil.example\r\n")) + BODY,
    "two tokens": _head(b"Authorization: Bearer bob\r\n", LENGTH) + BODY,
    "two equal tokens": _head(b"Authorization: Bearer alice\r\n", LENGTH) + BODY,
    "two origins": _head(b"Origin: http://localhost:8000\r\nOrigin: http://localhost:8000\r\n", LENGTH) + BODY,
    "two sessions": _head(b"Mcp-Session-Id: a\r\nMcp-Session-Id: b\r\n", LENGTH) + BODY,
    "two versions": _head(b"Mcp-Protocol-Version: 2025-11-25\r\n", LENGTH) + BODY,
    "two types": _head(b"Content-Type: application/json\r\n", LENGTH) + BODY,
    "content_length": _head(b"content_length: 3\r\n", LENGTH) + BODY,
    "transfer_encoding": _head(b"Transfer_Encoding: chunked\r\n", LENGTH) + BODY,
    "mcp_session_id": _head(b"Mcp_Session_Id: a\r\n", LENGTH) + BODY,
    "mcp_param": _head(b"Mcp_Param_City: a\r\n", LENGTH) + BODY,
    "x_forwarded_for": _head(b"X_Forwarded_For: 1.2.3.4\r\n", LENGTH) + BODY,
    "a space in a name": _head(b"X Note: a\r\n", LENGTH) + BODY,
    "a line without a colon": _head(b"nonsense\r\n", LENGTH) + BODY,
    "a header without a name": _head(b": a\r\n", LENGTH) + BODY,
    "a name beyond ASCII": _head("Mäp: a\r\n".encode(), LENGTH) + BODY,
    "a value of 16 KiB": _head(b"X-Note: " + b"a" * 16384 + b"\r\n", LENGTH) + BODY,
    "headers of 16 KiB": _head(*[b"X-%d: aaaaaaaaaaaaaaaaaaaa\r\n" % number for number in range(700)], LENGTH) + BODY,
    "an address of 16 KiB": _head(LENGTH, line=b"POST /mcp/files?" + b"a" * 16384 + b" HTTP/1.1\r\n") + BODY,
    "a header without an end": LINE + ORDINARY + b"X-Note: " + b"a" * 70_000,
    "a name without an end": LINE + ORDINARY + b"a" * 70_000,
    "an address without an end": b"POST /mcp/" + b"a" * 70_000,
    "a method without an end": b"P" * 70_000,
    "a chunk without a size": _head(b"Transfer-Encoding: chunked\r\n") + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a chunk with a bad size": _head(b"Transfer-Encoding: chunked\r\n") + b"0x28\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a chunk beyond 64 bits": _head(b"Transfer-Encoding: chunked\r\n") + b"1" * 17 + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a chunk with a bare LF": _head(b"Transfer-Encoding: chunked\r\n") + b"28\n" + BODY + b"\n0\n\n",
    "a chunk that is too short": _head(b"Transfer-Encoding: chunked\r\n") + b"5\r\n" + BODY + b"\r\n0\r\n\r\n",
    "an unknown method": _head(LENGTH, line=b"EVIL /mcp/files HTTP/1.1\r\n") + BODY,
    "a method in small letters": _head(LENGTH, line=b"post /mcp/files HTTP/1.1\r\n") + BODY,
    "a tab in the first line": _head(LENGTH, line=b"POST\t/mcp/files\tHTTP/1.1\r\n") + BODY,
    "another site's address": _head(LENGTH, line=b"POST http://evil.example/mcp/files HTTP/1.1\r\n") + BODY,
    "our own address with a host": _head(LENGTH, line=b"POST http://testserver/mcp/files HTTP/1.1\r\n") + BODY,
    "a user in the address": _head(LENGTH, line=b"POST http://a:b@testserver/mcp/files HTTP/1.1\r\n") + BODY,
    "a fragment": _head(LENGTH, line=b"POST /mcp/files#x HTTP/1.1\r\n") + BODY,
    "an address in two words": _head(LENGTH, line=b"POST /mcp/ files HTTP/1.1\r\n") + BODY,
}  # fmt: skip
# Complete requests that no server is asked for; the connection may be used again.
ADDRESSES = {
    "a tunnel": _head(line=b"CONNECT testserver:443 HTTP/1.1\r\n"),
    "everything": _head(line=b"OPTIONS * HTTP/1.1\r\n"),
    "bytes beyond ASCII": _head(LENGTH, line="POST /mcp/fil\u00e9s HTTP/1.1\r\n".encode("latin-1")) + BODY,
    "an encoded letter": _head(LENGTH, line=b"POST /mcp/%66iles HTTP/1.1\r\n") + BODY,
    "dots": _head(LENGTH, line=b"POST /mcp/x/../files HTTP/1.1\r\n") + BODY,
    "encoded dots": _head(LENGTH, line=b"POST /mcp/%2e%2e/mcp/files HTTP/1.1\r\n") + BODY,
    "an encoded slash": _head(LENGTH, line=b"POST /mcp%2ffiles HTTP/1.1\r\n") + BODY,
    "parameters": _head(LENGTH, line=b"POST /mcp/files;a=b HTTP/1.1\r\n") + BODY,
    "a backslash": _head(LENGTH, line=b"POST /mcp\\files HTTP/1.1\r\n") + BODY,
    "a foreign host": _head(LENGTH, ordinary=_without(b"Host", b"Host: evil.example\r\n")) + BODY,
    "an upgrade": _head(b"Connection: upgrade\r\nUpgrade: websocket\r\n", line=b"TRACE /mcp/files HTTP/1.1\r\n"),
}  # fmt: skip
GOOD = {
    "with a length": _head(LENGTH) + BODY,
    "in chunks": _head(b"Transfer-Encoding: chunked\r\n") + CHUNKED,
    "in chunks with an extension": _head(b"Transfer-Encoding: chunked\r\n") + b"28;a=b\r\n" + BODY + b"\r\n0\r\n\r\n",
    "names in any case": _head(LENGTH.upper()) + BODY,
    "a query": _head(LENGTH, line=b"POST /mcp/files?a=b HTTP/1.1\r\n") + BODY,
    "headers below 16 KiB": _head(b"X-Note: " + b"a" * 15_000 + b"\r\n", LENGTH) + BODY,
}


@pytest_asyncio.fixture
async def wire(front: Front) -> AsyncIterator[Wire]:
    async with listening(front.gateway) as opened:
        yield opened


@requirement("G04")
async def test_an_unclear_request_is_refused_and_the_connection_closed(front: Front, wire: Wire) -> None:
    assert len(FRAMES) >= 40
    found = {name: await wire.talk(frame) for name, frame in FRAMES.items()}
    wrong = {
        name: received[:100]
        for name, (received, closed) in found.items()
        if not closed or not received.startswith(b"HTTP/1.1 400 ") or received.count(b"HTTP/1.1 ") != 1
    }
    print(f"{len(FRAMES)} unclear frames: {len(front.upstream.seen)} reached the upstream")
    assert wrong == {}
    assert front.upstream.seen == []


@requirement("G04", "G06")
async def test_another_address_reaches_no_server(front: Front, wire: Wire) -> None:
    found = {name: (await wire.talk(frame))[0] for name, frame in ADDRESSES.items()}
    refusals = tuple(b"HTTP/1.1 %d " % status for status in (400, 404, 405, 421))
    assert {name: received[:100] for name, received in found.items() if not received.startswith(refusals)} == {}
    assert front.upstream.seen == []


@requirement("G04")
async def test_a_clear_request_goes_on(front: Front, wire: Wire) -> None:
    found = {name: await wire.talk(frame) for name, frame in GOOD.items()}
    assert {name: received[:13] for name, (received, _) in found.items()} == dict.fromkeys(GOOD, b"HTTP/1.1 200 ")
    assert not any(closed for _, closed in found.values())
    assert len(front.upstream.seen) == len(GOOD)


@requirement("G04")
async def test_a_frame_in_pieces_is_read_like_one_in_one(front: Front, wire: Wire) -> None:
    good, bad = _head(LENGTH) + BODY, FRAMES["length and chunks"]
    received, _ = await wire.talk(*(good[at : at + 7] for at in range(0, len(good), 7)))
    assert received.startswith(b"HTTP/1.1 200 ")
    # Bytes that come after the refusal may keep the client from reading it.
    received, closed = await wire.talk(*(bad[at : at + 7] for at in range(0, len(bad), 7)))
    assert (received[:13] in (b"HTTP/1.1 400 ", b""), closed, len(front.upstream.seen)) == (True, True, 1)


@requirement("G04")
async def test_a_head_that_is_too_long_is_refused_behind_other_requests_too_wherever_it_is_cut(
    front: Front, wire: Wire
) -> None:
    front.upstream.behave = streams(b"data: {}\n\n")
    good, long = _head(LENGTH) + BODY, FRAMES["a value of 16 KiB"]
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    for piece in (good, good + long[:12_000]):
        writer.write(piece)
        assert (await reader.readuntil(b"0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.write(long[12_000:])
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert len(front.upstream.seen) == 2


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ((_head(LENGTH), BODY[:1]), b"HTTP/1.1 408 "),
        ((_head(LENGTH) + BODY[:-1],), b"HTTP/1.1 408 "),
        ((_head(b"Transfer-Encoding: chunked\r\n"), b"1\r\n{\r\n"), b"HTTP/1.1 408 "),
        ((_head(LENGTH)[:-4],), b"HTTP/1.1 408 "),
        ((LINE[:7],), b"HTTP/1.1 408 "),
        ((), b""),
    ],
)
async def test_a_request_that_does_not_come_to_its_end_is_not_waited_for(
    front: Front, wire: Wire, monkeypatch: pytest.MonkeyPatch, pieces: tuple[bytes, ...], answer: bytes
) -> None:
    monkeypatch.setattr(BoundedHttpProtocol, "request_seconds", 0.1)
    received, closed = await wire.talk(*pieces)
    assert (received[:13], closed, front.upstream.seen) == (answer, True, [])


async def test_an_answer_may_take_longer_than_a_request(
    front: Front, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedHttpProtocol, "request_seconds", 0.1)
    front.upstream.behave = streams(lambda: asyncio.sleep(0.3), b"data: {}\n\n")
    received, _ = await wire.talk(_head(LENGTH) + BODY)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"data: {}\n\n\r\n0\r\n\r\n")


async def test_a_second_request_may_wait_for_the_answer_to_the_first_and_has_its_own_time_then(
    front: Front, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedHttpProtocol, "request_seconds", 0.1)
    front.upstream.behave = streams(lambda: asyncio.sleep(0.3), b"data: {}\n\n")
    begun = _head(LENGTH) + BODY[:1]
    assert await _all_of(wire, _head(LENGTH) + BODY + begun) == [b"200", b"408"]
    assert await _all_of(wire, _head(LENGTH) + BODY, begun) == [b"200", b"408"]


async def test_a_connection_is_closed_once_it_was_idle_for_long_enough_and_not_while_it_is_used(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIONS, "timeout_keep_alive", 0.3)
    async with listening(front.gateway) as wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        loop = asyncio.get_running_loop()
        front.upstream.behave = streams(b"data: {}\n\n")
        for pause in (0.2, 0.2, 0.2, 0.0):  # together longer than one may be idle
            asked_at = loop.time()
            writer.write(_head(LENGTH) + BODY)
            assert (await reader.readuntil(b"0\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
            await asyncio.sleep(pause)
        front.upstream.behave = streams(lambda: asyncio.sleep(0.5), b"data: {}\n\n")  # longer, and not idle
        writer.write(_head(LENGTH) + BODY)
        rest = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert rest.endswith(b"data: {}\n\n\r\n0\r\n\r\n")
    assert loop.time() - asked_at >= 0.8


async def test_a_header_that_names_a_session_is_not_kept_after_the_answer(
    front: Front, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[bytes, bytes]] = []

    def line(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        kept.append(header)
        return checked_answer._written(header)

    monkeypatch.setattr(checked_answer, "_line", line)
    front.upstream.behave = answers(headers={"Mcp-Session-Id": "theirs"})
    body = legacy_call(method="initialize")
    received, _ = await wire.talk(_head(b"Content-Length: %d\r\n" % len(body)) + body)
    assert b"\r\nmcp-session-id: ours-0\r\n" in received
    assert (b"content-type", b"application/json") in kept
    assert b"ours-0" not in {value for _, value in kept}


async def _all_of(wire: Wire, first: bytes, then: bytes = b"") -> list[bytes]:
    """Send something, more after the first answer, and return the statuses of all answers until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(first)
    received = await reader.readuntil(b"0\r\n\r\n")
    writer.write(then)
    received += await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return re.findall(rb"HTTP/1\.1 (\d+)", received)
