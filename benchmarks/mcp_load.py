"""A closed-loop load generator for MCP endpoints: kept connections, one call in flight on each, answers checked."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import uvloop

from .http_connection import HttpConnection, ask, request

MODERN = "2026-07-28"
LEGACY = "2025-06-18"
_NUMBER = b"10000000"
_PATIENCE_SECONDS = 120
_META = "io.modelcontextprotocol"


@dataclass(frozen=True, slots=True)
class Target:
    """Something that answers `tools/call`.

    Attributes:
        headers: For each connection a set of its own, in turn.
        mode: `modern` speaks 2026-07-28; `session` begins with `initialize`; `stateless` just calls, as of 2025-06-18.
        pids: Whose CPU is charged, with their children.
        weight: A factor on the number of calls, for slow and for very quick ones.
    """

    name: str
    url: str
    headers: tuple[dict[str, str], ...] = ({},)
    pids: tuple[int, ...] = ()
    mode: str = "modern"
    tool: str = "echo"
    weight: float = 1.0


@dataclass(slots=True)
class Outcome:
    """What came of a load; times in seconds, of good answers only."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)


def drive(target: Target, *, connections: int, calls: int) -> Outcome:
    """Call `echo` that often over that many connections."""
    return _run(target, connections, calls, tool=target.tool, mark=b"", expected=(b'"hello"',))


def drive_streams(target: Target, *, connections: int, calls: int) -> Outcome:
    """Call `stream`; `firsts` is when its first event arrived, and an answer without all three is bad."""
    expected = tuple(b'"progress":%d' % number for number in (1, 2, 3))
    return _run(target, connections, calls, tool="stream", mark=b"notifications/progress", expected=expected)


def _run(
    target: Target, connections: int, calls: int, *, tool: str, mark: bytes, expected: tuple[bytes, ...]
) -> Outcome:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_drive(target, connections, calls, tool, mark, expected))


async def _drive(
    target: Target, connections: int, calls: int, tool: str, mark: bytes, expected: tuple[bytes, ...]
) -> Outcome:
    outcome = Outcome()
    shares = [calls // connections + (number < calls % connections) for number in range(connections)]
    callers = []
    for number, share in enumerate(shares):
        headers = target.headers[number % len(target.headers)]
        caller = _Caller(target, tool, headers, share, outcome, mark, expected)
        await caller.open()
        callers.append(caller)
    started = time.perf_counter()
    for caller in callers:
        caller.send()
    await asyncio.wait_for(asyncio.gather(*(caller.finished for caller in callers)), _PATIENCE_SECONDS)
    outcome.seconds = time.perf_counter() - started
    for caller in callers:
        caller.connection.transport.close()
    return outcome


class _Caller:
    """One connection, and the calls that it has to make."""

    def __init__(
        self,
        target: Target,
        tool: str,
        headers: dict[str, str],
        share: int,
        outcome: Outcome,
        mark: bytes,
        expected: tuple[bytes, ...],
    ) -> None:
        self._target, self._tool, self._headers = target, tool, headers
        self._left, self._outcome, self._expected = share, outcome, expected
        self._mark = mark
        self._number = int(_NUMBER)
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        self.connection = await connect(self._target.url, partial(HttpConnection, self._answered, mark=self._mark))
        if self._target.mode == "session":
            self._headers = {**self._headers, **await begin_session(self.connection, self._target.url, self._headers)}
        data = call(self._target.url, "tools/call", _params(self._tool), mode=self._target.mode, headers=self._headers)
        self._before, self._after = data.split(_NUMBER)

    def send(self) -> None:
        """Send the next call, or be finished."""
        if self._left == 0:
            self.finished.set_result(None)
            return
        self._left -= 1
        self._number += 1
        self.connection.send(b"%b%d%b" % (self._before, self._number, self._after))

    def _answered(self, status: int, body: bytes) -> None:
        if status == 200 and b"%d" % self._number in body and all(part in body for part in self._expected):
            self._outcome.latencies.append(time.perf_counter() - self.connection.sent_at)
            self._outcome.firsts.append(self.connection.marked_at - self.connection.sent_at)
        else:
            self._outcome.bad.append(f"{status} {body[:300]!r}")
        if status == 0:
            self._left = 0
        self.send()


async def connect(url: str, protocol: partial[HttpConnection]) -> HttpConnection:
    """Open a connection to where the URL says."""
    parts = urlsplit(url)
    _, connection = await asyncio.get_running_loop().create_connection(protocol, parts.hostname, parts.port)
    return connection


async def begin_session(connection: HttpConnection, url: str, headers: dict[str, str]) -> dict[str, str]:
    """Initialize as of 2025-06-18 and return the header that the session's calls have to carry."""
    hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "load", "version": "1"}}
    status, body = await ask(connection, call(url, "initialize", hello, mode="session", headers=headers))
    if status != 200:
        raise SystemExit(f"{url}: initialize: {status} {body[:300]!r}")
    found = [line for line in connection.head.split(b"\r\n") if line.startswith(b"mcp-session-id:")]
    session = {"Mcp-Session-Id": found[0].partition(b":")[2].strip().decode()} if found else {}
    await ask(connection, call(url, "notifications/initialized", {}, mode="session", headers={**headers, **session}))
    return session


def call(url: str, method: str, params: dict[str, Any], *, mode: str, headers: dict[str, str]) -> bytes:
    """Return a request for a method, with an id of eight digits that may be replaced; a notification has none."""
    version = MODERN if mode == "modern" else LEGACY
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    named = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    named["MCP-Protocol-Version"] = version
    if not method.startswith("notifications/"):
        message["id"] = int(_NUMBER)
    if mode == "modern":
        about = {f"{_META}/protocolVersion": MODERN, f"{_META}/clientCapabilities": {}}
        message["params"] = {**params, "_meta": {**params.get("_meta", {}), **about}}
        named |= {"Mcp-Method": method} | ({"Mcp-Name": params["name"]} if method == "tools/call" else {})
    return request("POST", url, {**named, **headers}, json.dumps(message).encode())


def _params(tool: str) -> dict[str, Any]:
    arguments = {} if tool.endswith("stream") else {"text": "hello"}
    return {"name": tool, "arguments": arguments, "_meta": {"progressToken": "p"}}


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
