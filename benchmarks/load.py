"""A closed-loop load generator: so many kept connections, one request in flight on each, every answer checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast
from urllib.parse import urlsplit

import uvloop

_LENGTH = b"\r\ncontent-length:"


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it goes over the wire, and what the body of its answer must hold."""

    data: bytes
    expected: bytes


@dataclass(slots=True)
class Outcome:
    """What came of a load; `latencies` in seconds, of good answers only. `ended_at` is of the monotonic clock."""

    seconds: float = 0.0
    ended_at: float = 0.0
    latencies: list[float] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)


def post(url: str, *, headers: dict[str, str], expected: str) -> Call:
    """Return a POST without a body."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Content-Length: 0"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return Call(("\r\n".join(lines) + "\r\n\r\n").encode(), expected.encode())


def drive(port: int, calls: Sequence[Call], *, connections: int, count: int) -> Outcome:
    """Send `count` requests over that many connections; each connection has a call of its own, in turn."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_drive(port, calls, connections, count))


async def _drive(port: int, calls: Sequence[Call], connections: int, count: int) -> Outcome:
    loop = asyncio.get_running_loop()
    outcome = Outcome()
    shares = [count // connections + (number < count % connections) for number in range(connections)]
    clients = []
    for number, share in enumerate(shares):
        new_client = partial(_Client, calls[number % len(calls)], share, outcome)
        clients.append((await loop.create_connection(new_client, "127.0.0.1", port))[1])
    started = time.perf_counter()
    for client in clients:
        client.send()
    await asyncio.wait_for(asyncio.gather(*(client.finished for client in clients)), timeout=300)
    outcome.seconds, outcome.ended_at = time.perf_counter() - started, time.monotonic()
    for client in clients:
        client.transport.close()
    return outcome


class _Client(asyncio.Protocol):
    """One connection. Understands answers with a Content-Length, which is what all targets send."""

    transport: asyncio.Transport

    def __init__(self, call: Call, share: int, outcome: Outcome) -> None:
        self._call, self._left, self._outcome = call, share, outcome
        self._buffer = b""
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self._outcome.bad.append(f"connection closed: {exc}")
            self.finished.set_result(None)

    def send(self) -> None:
        """Send the next request, or be finished."""
        if self._left == 0:
            self.finished.set_result(None)
            return
        self._left -= 1
        self._sent = time.perf_counter()
        self.transport.write(self._call.data)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower() + b"\r\n"
        at = head.index(_LENGTH) + len(_LENGTH)
        length = int(head[at : head.index(b"\r\n", at)])
        if len(self._buffer) < end + 4 + length:
            return
        body, self._buffer = self._buffer[end + 4 :], b""
        if head[9:12] == b"200" and self._call.expected in body:
            self._outcome.latencies.append(time.perf_counter() - self._sent)
        else:
            self._outcome.bad.append(f"{head[9:12]!r} {body[:200]!r}")
        self.send()
