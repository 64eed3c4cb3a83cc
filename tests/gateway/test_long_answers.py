"""Long answers: what of them is read here is bounded, and who reads them slowly keeps a place for as long."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from pytest_django import Settings

from tests.requirements import requirement

from .front import LEGACY, MODERN, Front, legacy_call, modern_call, standing
from .upstream import answers, streams
from .wire import listening

LIST = {**MODERN, "Mcp-Method": "tools/list", "Mcp-Name": None}
LONG = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[],"more":"%b"}}' % (b"x" * 1000)
ASKING = b'{"jsonrpc":"2.0","id":1,"result":{"requestState":"s","more":"%b"}}' % (b"x" * 1000)
CALL = (
    b"POST /mcp/files HTTP/1.1\r\nHost: testserver\r\nAuthorization: Bearer alice\r\nAccept: application/json\r\n"
    b"Content-Type: application/json\r\nMcp-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\n"
    b"Mcp-Name: echo\r\n"
)


@pytest_asyncio.fixture
async def front(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> AsyncIterator[Front]:
    settings.GATEWAY = {"edited_bytes": 1000, "reading_seconds": 0.3, "answer_seconds": 0.5}
    async with standing(monkeypatch, settings) as opened:
        yield opened


@requirement("G16")
async def test_no_more_is_read_here_than_may_keep_others_waiting(front: Front) -> None:
    front.upstream.behave = answers(LONG)
    refused = await front.ask(modern_call(method="tools/list"), LIST)
    assert (refused.status, refused.json()["id"]) == (502, 1)
    assert "too long" in refused.json()["error"]["message"]
    assert (await front.ask(modern_call(), MODERN)).body == LONG
    front.upstream.behave = answers(ASKING)
    assert (await front.ask(modern_call(), MODERN)).status == 502


@requirement("G16")
async def test_nor_of_an_event(front: Front) -> None:
    front.upstream.behave = streams(b"data: {}\n\n", front.looked, b"data: " + ASKING + b"\n\n")
    answer = await front.ask(modern_call(), MODERN)
    assert (answer.status, answer.body[:10], answer.is_whole) == (200, b"data: {}\n\n", True)
    error = json.loads(answer.body[10:].removeprefix(b"event: message\ndata: "))
    assert (error["id"], "too long" in error["error"]["message"]) == (1, True)
    front.upstream.behave = streams(b"data: " + LONG + b"\n\n")
    assert (await front.ask(modern_call(), MODERN)).body == b"data: " + LONG + b"\n\n"


@requirement("G16")
async def test_a_document_that_takes_too_long_is_not_waited_for(front: Front) -> None:
    """However busy the server is: `answer_seconds` are from the head to the end. What has begun is left without it."""

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for _ in range(200):
            await response.write(b" " * 10)
            await asyncio.sleep(0.05)
        return response

    front.upstream.behave = slow
    begun = await front.ask(legacy_call(), LEGACY)
    assert (begun.status, begun.is_whole, set(begun.body)) == (200, False, set(b" "))
    read_here = await front.ask(modern_call(7), MODERN)
    assert (read_here.status, read_here.json()["id"], read_here.json()["error"]["code"]) == (504, 7, -32000)
    async with asyncio.timeout(5):
        for seen in front.upstream.seen:
            await seen.left.wait()


@requirement("G13")
async def test_a_client_that_reads_a_long_answer_slowly_keeps_its_place_and_is_left_in_the_end(front: Front) -> None:
    front.upstream.behave = answers(b'"%b"' % (b"x" * 8 * 1024 * 1024))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        async with listening(front.gateway) as wire:
            loop, body = asyncio.get_running_loop(), modern_call()
            await loop.sock_connect(client, ("127.0.0.1", wire.port))
            await loop.sock_sendall(client, CALL + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert (await loop.sock_recv(client, 15)).startswith(b"HTTP/1.1 200 ")
            await front.looked()
            assert front.gateway._calls._total == 1
            async with asyncio.timeout(5):
                while front.gateway._calls._total:
                    await asyncio.sleep(0.01)
