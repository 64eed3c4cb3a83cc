"""What a process of the gateway needs: idle, for each stream that it holds, and for each idle session.

    python -m benchmarks.gateway_memory [--database sqlite] [--database postgresql --administration URL]
        [--streams 2000] [--sessions 4000] [--with-site]

Streams are `subscriptions/listen`, acknowledged by the server behind and then quiet. What 256 streams need besides is
taken off. Memory is the proportional set size of the process. Errors end the run.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import uvloop

from .gateway_stage import Stage, running_stage
from .http_connection import HttpConnection
from .mcp_load import Target, begin_session, call, connect, drive
from .processes import memory_mib

_FIRST = 256
_AT_ONCE = 64
_QUIET_SECONDS = 6
_NOTHING_MIB = 0.2
_ACKNOWLEDGED = b"notifications/subscriptions/acknowledged"
_LISTEN = {"notifications": {"toolsListChanged": True}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), action="append")
    parser.add_argument("--administration", default="", help="a PostgreSQL database whose user may create others")
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--sessions", type=int, default=4000)
    parser.add_argument("--with-site", action="store_true", help="a web process with everything, not the gateway's own")
    options = parser.parse_args()
    for kind in options.database or ["sqlite"]:
        with (
            tempfile.TemporaryDirectory(prefix="benchmark-") as folder,
            running_stage(
                kind, folder=Path(folder), administration=options.administration, with_site=options.with_site
            ) as stage,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            print(f"\n{kind}")
            print(f"idle: {memory_mib(stage.site.pid):.0f} MiB")
            drive(stage.ours, connections=16, calls=500)
            print(f"idle after 500 calls: {memory_mib(stage.site.pid):.0f} MiB")
            runner.run(_streams(stage, options.streams))
            runner.run(_sessions(stage, options.sessions))


async def _streams(stage: Stage, count: int) -> None:
    await _opened_and_closed(stage, _FIRST)
    memory = partial(memory_mib, stage.site.pid)
    start = memory()
    opened = time.perf_counter()
    first = await _open(stage.ours, _FIRST)
    at_first = memory()
    rest = await _open(stage.ours, count - _FIRST)
    seconds, held = time.perf_counter() - opened, memory()
    threads = len(list(Path(f"/proc/{stage.site.pid}/task").iterdir()))
    still = sum(not connection.transport.is_closing() for connection in (*first, *rest))
    if still != count:
        raise SystemExit(f"of {count} streams {still} are open")
    _close(first, rest)
    end = await _settled(memory)
    await asyncio.to_thread(drive, stage.ours, connections=16, calls=2000)
    later = await _settled(memory)
    each = (held - at_first) * 1024 / (count - _FIRST)
    print(
        f"{count} streams, opened in {seconds:.1f} s, none failed: {start:.0f} → {held:.0f} MiB, {each:.1f} KiB each",
        end="; ",
    )
    print(f"{threads} threads")
    print(f"all closed again: {end:.0f} MiB, {end / start:.2f} times the start", end=", ")
    print(f"{end / at_first:.2f} times what it was with {_FIRST}", end="; ")
    print(f"2,000 calls later: {later:.0f} MiB, {later / start:.2f} times")


async def _opened_and_closed(stage: Stage, count: int) -> None:
    _close(await _open(stage.ours, count))
    await _settled(partial(memory_mib, stage.site.pid))


async def _open(target: Target, count: int) -> list[HttpConnection]:
    """Open that many streams, some at a time; each has been acknowledged."""
    narrow = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> HttpConnection:
        async with narrow:
            failed: list[str] = []
            told = partial(HttpConnection, lambda *answer: failed.append(str(answer)), mark=_ACKNOWLEDGED)
            connection = await connect(target.url, told)
            headers = target.headers[number % len(target.headers)]
            connection.send(call(target.url, "subscriptions/listen", _LISTEN, mode="modern", headers=headers))
            deadline = time.perf_counter() + 30
            while not connection.marked_at:
                if failed or time.perf_counter() > deadline:
                    raise SystemExit(f"stream {number} was not acknowledged: {failed}")
                await asyncio.sleep(0.002)
            return connection

    return await asyncio.gather(*(one(number) for number in range(count)))


def _close(*groups: list[HttpConnection]) -> None:
    for connection in (each for group in groups for each in group):
        connection.transport.abort()


async def _settled(memory: Callable[[], float]) -> float:
    """Give it time to notice and to clear up, and return what it needs then."""
    least, still = memory(), 0
    while still < _QUIET_SECONDS:
        await asyncio.sleep(1)
        now = memory()
        least, still = min(least, now), 0 if least - now > _NOTHING_MIB else still + 1
    return memory()


async def _sessions(stage: Stage, count: int) -> None:
    memory = partial(memory_mib, stage.site.pid)
    await _begin(stage.ours, _FIRST)
    start = await _settled(memory)
    await _begin(stage.ours, count)
    end = await _settled(memory)
    print(f"{count} idle sessions: {start:.0f} → {end:.0f} MiB, {(end - start) * 1024 / count:.2f} KiB each")


async def _begin(target: Target, count: int) -> None:
    """Begin that many sessions over a few connections that are closed afterwards."""
    for at in range(len(target.headers)):
        connection = await connect(target.url, partial(HttpConnection, lambda status, body: None))
        for _ in range(at, count, len(target.headers)):
            if not await begin_session(connection, target.url, target.headers[at]):
                raise SystemExit("initialize gave no session")
        connection.transport.close()


if __name__ == "__main__":
    main()
