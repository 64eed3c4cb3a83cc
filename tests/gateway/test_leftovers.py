"""What ended is free at once: what only the garbage collector finds stays for hours, and keeps the memory around it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.conf import GatewayConfiguration
from gateway.streams import watch
from gateway.streams.rights import Rights
from oauthflow.egress.origin import Origin
from oauthflow.egress.relay_wire import RelayWire
from oauthflow.hot_path.batches import Batches
from oauthflow.protocol.urls import parse_http_url


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


class Thing:
    """Something that can be watched."""

    async def still_may(self) -> bool:
        return True


async def test_a_connection_to_a_server_that_was_cut() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    url = parse_http_url(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    origin: Origin[RelayWire] = Origin(url, connect_seconds=1, kept_seconds=1, make=RelayWire)
    make: Any = RelayWire
    _, wire = await loop.create_connection(lambda: make(origin), url.host, url.port)
    told, left = wire.send(b"GET / HTTP/1.1\r\n\r\n"), weakref.ref(wire)
    told.cancel()
    wire.leave(told)
    del wire, told
    await until_gone(left)
    server.close()


async def test_what_a_thread_has_worked_on() -> None:
    batches: Batches[Thing, None] = Batches(list, at_end=lambda: None, name="test", capacity=1)
    thing = Thing()
    left = weakref.ref(thing)
    await batches.put(thing)
    del thing
    await until_gone(left)
    await batches.close()


async def test_a_stream_whose_right_was_asked_for() -> None:
    open_streams: list[Any] = [Thing()]
    left = weakref.ref(open_streams[0])
    asked: Any = SimpleNamespace(streams=open_streams.copy)
    rights = Rights(asked, GatewayConfiguration(rights_seconds=0.01))
    await rights.open()
    await asyncio.sleep(0.05)
    open_streams.clear()
    await until_gone(left)
    await rights.close()


async def test_memory_goes_back_once_when_most_of_many_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back = list[None]()
    for name, value in (("MANY", 16), ("GIVEN_BACK_SECONDS", 0), ("give_back", lambda: given_back.append(None))):
        monkeypatch.setattr(watch, name, value)
    watching, exchange = watch.Watch(GatewayConfiguration()), cast("Any", SimpleNamespace(receive=asyncio.Event().wait))
    over = partial(watching.over, exchange, seconds=60, is_left_to_finish=True, still_may=Thing().still_may)
    with ExitStack() as many:
        for _ in range(16):
            many.enter_context(over())
        await asyncio.sleep(2 * watch.TICK_SECONDS)
        assert not given_back
    with over():
        await asyncio.sleep(3 * watch.TICK_SECONDS)
    assert len(given_back) == 1


async def until_gone(left: weakref.ref[Any]) -> None:
    """Wait until nobody has it any more."""
    async with asyncio.timeout(10):
        while left() is not None:
            await asyncio.sleep(0.01)
