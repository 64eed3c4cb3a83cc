"""Streams: who ends them, when, and what they leave behind. Limits are made small here; none is measured in seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web
from pytest_django import Settings

from authserver.conf import AuthserverConfiguration
from gateway.conf import GatewayConfiguration
from gateway.endpoint.answers import BusyError
from gateway.endpoint.exchange import Exchange
from gateway.streams import rights as asking
from gateway.streams.rights import Rights
from gateway.streams.watch import StreamEndedError, UnderWay
from gateway.targets.find import NeedsPersonError, Reason
from tests.requirements import requirement

from .front import LEGACY, MODERN, Client, Front, legacy_call, limits, modern_call, never
from .upstream import streams

EVENT = b"data: {}\n\n"
LISTEN = {**MODERN, "Mcp-Method": "subscriptions/listen", "Mcp-Name": None}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


def open_stream(front: Front, kind: str) -> Client:
    if kind == "get":
        return front.open(b"", {**LEGACY, "Accept": "text/event-stream", "Last-Event-ID": "7"}, method="GET")
    if kind == "listen":
        return front.open(modern_call(method="subscriptions/listen"), LISTEN)
    return front.open(modern_call(), MODERN) if kind == "modern call" else front.open(legacy_call(), LEGACY)


@requirement("G-17")
@pytest.mark.parametrize("kind", ["modern call", "listen", "get"])
@pytest.mark.parametrize("has_begun", [True, False])
async def test_a_client_that_leaves_cancels_at_the_server(front: Front, kind: str, has_begun: bool) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await never()
        raise AssertionError

    front.upstream.behave = streams(EVENT, never) if has_begun else silent
    client = open_stream(front, kind)
    if has_begun:
        await client.start()
        await client.piece()
    await until(lambda: bool(front.upstream.seen))
    client.leave()
    async with asyncio.timeout(2):
        await front.upstream.seen[0].left.wait()
    await client.end()


@requirement("G-17")
@pytest.mark.parametrize("has_begun", [True, False])
async def test_an_older_client_that_leaves_cancels_nothing(front: Front, has_begun: bool) -> None:
    go_on = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await go_on.wait()
        return web.json_response({})

    front.upstream.behave = streams(EVENT, go_on.wait, EVENT) if has_begun else slow
    client = open_stream(front, "legacy call")
    if has_begun:
        await client.start()
        await client.piece()
    await until(lambda: bool(front.upstream.seen))
    client.leave()
    await front.looked()
    assert not client.task.done()
    go_on.set()
    await client.end()
    await front.upstream.seen[0].done.wait()
    assert not front.upstream.seen[0].left.is_set()


@limits(heartbeat_seconds=0.05, idle_seconds=100)
@requirement("G13", "G-18")
async def test_a_quiet_stream_says_between_events_that_it_is_there(front: Front) -> None:
    half, rest = asyncio.Event(), asyncio.Event()
    front.upstream.behave = streams(EVENT, half.wait, b"data: {", rest.wait, b"}\n\n")
    client = open_stream(front, "listen")
    await client.start()
    assert await client.piece() == EVENT
    assert [await client.piece() for _ in range(2)] == [b": \n\n"] * 2
    half.set()
    while (piece := await client.piece()) == b": \n\n":
        continue
    assert piece == b"data: {"
    await front.looked(times=10)  # longer than two heartbeats
    rest.set()
    assert await client.piece() == b"}\n\n"
    await client.end()


@limits(idle_seconds=0.1)
@requirement("G13", "G-18")
async def test_only_a_stream_that_stays_open_by_nature_may_be_quiet(front: Front) -> None:
    front.upstream.behave = streams(EVENT, never)
    call = open_stream(front, "modern call")
    listening, getting = open_stream(front, "listen"), open_stream(front, "get")
    assert (await call.end()).is_whole
    await until(lambda: sum(seen.left.is_set() for seen in front.upstream.seen) == 1)
    assert not listening.task.done()
    assert not getting.task.done()
    listening.leave()
    getting.leave()


@limits(stream_seconds=0.1)
@requirement("G13")
async def test_a_stream_lives_for_so_long_however_busy_it_is(front: Front) -> None:
    front.upstream.behave = streams(*[EVENT, lambda: asyncio.sleep(0.05)] * 200)
    client = open_stream(front, "listen")
    assert (await client.end()).is_whole
    await until(front.upstream.seen[0].left.is_set)


@requirement("G-24", "G13")
async def test_a_stream_ends_with_the_token_that_it_was_opened_with(front: Front) -> None:
    front.upstream.behave = streams(EVENT, never)
    front.caller_seconds = 0.3
    for kind in ("listen", "get"):
        answer = await open_stream(front, kind).end()
        assert (answer.status, answer.is_whole, answer.body.startswith(EVENT)) == (200, True, True)
    await until(lambda: all(seen.left.is_set() for seen in front.upstream.seen))


@limits(event_line_bytes=100_000)
@requirement("G13")
@pytest.mark.parametrize("before", [b"", b"data: 1\n", b"data: 1\r"])
async def test_a_line_without_an_end_ends_the_stream(front: Front, before: bytes) -> None:
    front.upstream.behave = streams(before, *[b"x" * 10_000] * 500)
    answer = await open_stream(front, "modern call").end()
    assert (answer.status, answer.is_whole) == (200, True)
    assert len(answer.body) < 400_000
    await until(front.upstream.seen[0].left.is_set)


@limits(event_line_bytes=1000)
async def test_many_short_lines_are_no_long_one(front: Front) -> None:
    event = b"data: " + b"x" * 900 + b"\n\n"
    front.upstream.behave = streams(*[event] * 50)
    assert (await open_stream(front, "modern call").end()).body == event * 50


@limits(reading_seconds=0.1)
@requirement("G13")
async def test_a_client_that_reads_nothing_is_left(front: Front) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(EVENT * 1000)
            sent += 1

    front.upstream.behave = endless
    client = open_stream(front, "listen")
    await client.start()
    await client.piece()
    client.stop_reading()
    await until(client.task.done)
    await until(front.upstream.seen[0].left.is_set)


@limits(streams_of_a_user=2, streams=3)
@requirement("G13")
async def test_streams_are_limited_by_person_and_by_process(front: Front) -> None:
    front.upstream.behave = streams(EVENT, never)
    mine = [open_stream(front, kind) for kind in ("listen", "get")]
    for client in mine:
        await client.start()
    refused = await open_stream(front, "listen").end()
    assert (refused.status, refused.header("retry-after"), refused.json()["id"]) == (429, "30", 1)
    bobs = front.open(modern_call(method="subscriptions/listen"), {**LISTEN, "Authorization": "Bearer bob"})
    await bobs.start()
    carols = await front.ask(modern_call(method="subscriptions/listen"), {**LISTEN, "Authorization": "Bearer carol"})
    assert (carols.status, carols.header("retry-after")) == (503, "30")
    assert len(front.upstream.seen) == 3
    mine[0].leave()
    await mine[0].end()
    again = open_stream(front, "get")
    assert (await again.start()).status == 200
    for client in (*mine, bobs, again):
        client.leave()
        await client.end()


@limits(streams_of_a_user=501, streams=501)
@requirement("G13")
async def test_an_open_stream_takes_no_thread_and_leaves_nothing_open(front: Front) -> None:
    front.upstream.behave = streams(EVENT, never)
    first = open_stream(front, "listen")
    await first.start()
    threads, files = _threads(), _files()
    clients: list[Client] = []
    for _ in range(50):
        clients += (some := [open_stream(front, "listen") for _ in range(10)])
        assert [(await client.start()).status for client in some] == [200] * 10
    assert len(front.gateway._watch.streams()) == 501
    assert _threads() - threads < 10  # a few for names of hosts, however many streams there are
    for client in (first, *clients):
        client.leave()
        await client.end()
    await until(lambda: _files() <= files)


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_process_that_stops_ends_its_streams(front: Front) -> None:
    front.upstream.behave = streams(EVENT, never)
    client = open_stream(front, "listen")
    await client.start()
    await client.piece()
    front.gateway.end_streams()
    assert (await client.end()).is_whole


@requirement("G-19", "G09")
async def test_two_subscriptions_hear_only_what_is_theirs(front: Front) -> None:
    async def own(request: web.Request) -> web.StreamResponse:
        number = request.headers["Mcp-Param-Number"].encode()
        return await streams(*[b"data: " + number + b"\n\n"] * 20)(request)

    front.upstream.behave = own
    body = modern_call(method="subscriptions/listen")
    clients = [front.open(body, {**LISTEN, "Mcp-Param-Number": str(number)}) for number in range(8)]
    for number, client in enumerate(clients):
        assert (await client.end()).body == b"data: %d\n\n" % number * 20


@limits(rights_seconds=0.05)
@requirement("G-24", "G14")
@pytest.mark.parametrize("right", ["token", "connection", "another account", "nobody knows"])
async def test_a_right_that_ends_takes_the_open_streams_with_it(front: Front, right: str) -> None:
    front.upstream.behave = streams(EVENT, never)
    clients = [open_stream(front, kind) for kind in ("listen", "get", "modern call", "legacy call")]
    for client in clients:
        await client.start()
        await client.piece()
    asked = front.asked
    await until(lambda: front.asked > asked + 8)
    assert not any(client.task.done() for client in clients)
    if right == "token":
        front.rights.clear()
    elif right == "connection":
        front.missing = NeedsPersonError(Reason.CONNECT, front.server)
    elif right == "another account":
        front.connection_id = UUID(int=3)
    else:
        front.missing = BusyError(503, "The database is away.", wait_seconds=1)
    for client in clients:
        assert (await client.end()).is_whole
    await until(lambda: all(seen.left.is_set() for seen in front.upstream.seen))


@requirement("G14")
async def test_an_open_stream_is_asked_often_enough_whatever_the_operator_does_not_say(settings: Settings) -> None:
    """Five seconds are promised without Redis; what tokens say is asked at most so often beside it."""
    settings.REDIS_URL = ""
    watch: Any = SimpleNamespace(streams=list)
    of_tokens = AuthserverConfiguration().revocation_check_seconds
    assert Rights(watch, GatewayConfiguration())._pause + asking._SLOW_SECONDS + of_tokens <= 5
    settings.REDIS_URL = "redis://127.0.0.1/0"
    assert Rights(watch, GatewayConfiguration())._pause + of_tokens <= 1


@limits(heartbeat_seconds=0.05, idle_seconds=100)
@requirement("G-18")
async def test_a_heartbeat_that_comes_too_late_is_left_out(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is due between two events, but a part of the next one goes out before its turn."""
    half, rest, beat = asyncio.Event(), asyncio.Event(), UnderWay._beat

    async def late(under_way: UnderWay) -> None:
        half.set()
        await until(lambda: not under_way.is_between_events)
        await beat(under_way)

    monkeypatch.setattr(UnderWay, "_beat", late)
    front.upstream.behave = streams(EVENT, half.wait, b"data: {", rest.wait, b"}\n\n")
    client = open_stream(front, "listen")
    await client.start()
    assert [await client.piece() for _ in range(2)] == [EVENT, b"data: {"]
    await front.looked(times=10)
    rest.set()
    assert await client.piece() == b"}\n\n"
    client.leave()
    await client.end()


async def test_who_comes_too_late_to_stop_a_call_stops_nothing_else(front: Front) -> None:
    watch = front.gateway._watch

    async def still_may() -> bool:
        return True

    async def no_send(message: Any) -> None:
        """Nothing is answered here."""

    exchange = Exchange({"method": "GET", "headers": []}, never, no_send)
    with watch.over(exchange, seconds=60, is_left_to_finish=False, still_may=still_may) as under_way:
        pass
    under_way.stop(StreamEndedError("the right to it has ended", ""))
    await asyncio.sleep(0)  # where it would be cancelled


@requirement("G14")
async def test_who_is_slow_to_say_whether_a_stream_may_stay_open_delays_no_other(settings: Settings) -> None:
    settings.REDIS_URL = ""
    asked, stopped = list[str](), list[str]()

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        async def still_may(self) -> bool:
            asked.append(self.name)
            return self.name == "slow" and bool(await never())

        def stop(self, why: Exception) -> None:
            stopped.append(self.name)

    watch: Any = SimpleNamespace(streams=[Stream("slow"), Stream("ended")].copy)
    rights = Rights(watch, GatewayConfiguration(rights_seconds=0.01))
    await rights.open()
    await until(lambda: stopped.count("ended") >= 2)
    await rights.close()
    assert asked.count("slow") == 1
    assert "slow" not in stopped


@limits(rights_seconds=0.05, reading_seconds=100)
@requirement("G13", "G14")
async def test_a_right_that_ends_is_not_waited_for_where_the_client_reads_nothing(front: Front) -> None:
    more = asyncio.Event()
    front.upstream.behave = streams(EVENT, more.wait, EVENT, never)
    client = open_stream(front, "listen")
    await client.start()
    await client.piece()
    client.stop_reading()
    more.set()
    await until(lambda: any(one.is_sending for one in front.gateway._watch.streams()))
    front.rights.clear()
    await asyncio.wait_for(client.task, 5)
    assert not (await client.end()).is_whole
