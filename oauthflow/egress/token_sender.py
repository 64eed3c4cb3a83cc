"""Many POST requests at once: one thread, one event loop, kept connections, the same guard."""

from __future__ import annotations

import asyncio
import queue
import re
import threading
import time
from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote_plus

import uvloop

from ..protocol.dpop import NonceAskedError
from ..protocol.errors import FlowError, ResponseTimeoutError, TransportError
from ..protocol.messages import Request, Response
from ..protocol.urls import ParsedUrl
from .addresses import Allowance, require_url
from .blocking import require_no_transaction
from .limits import Limits
from .origin import Origin
from .proofs import note_nonce, proved
from .signals import tell_request_done
from .token_wire import Wire, token_origin

_HEADERS: Final = {
    "User-Agent": "mcp-oauth-site",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/x-www-form-urlencoded",
}
_UNRESERVED: Final = re.compile(r"[\w.~-]*", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request. `was_sent` is false only where certainly nothing left this machine."""

    key: Hashable
    outcome: Response | FlowError
    seconds: float
    was_sent: bool = True


class Sender(Protocol):
    """Sends requests; each answer comes once, in any order."""

    def submit(self, key: Hashable, request: Request, *, not_after: float) -> None:
        """Send, unless the monotonic clock has passed `not_after` by then."""

    def next(self, *, seconds: float) -> Answer | None:
        """Return the next answer, or None where none comes in this time."""

    def close(self) -> None:
        """Close all connections; what is under way is abandoned."""


def open_sender(limits: Limits = Limits.REFRESH, *, step: str = "refresh") -> Sender:
    """Return what sends a batch; a test puts its own network here."""
    require_no_transaction()
    return TokenSender(limits, step=step)


class TokenSender:
    """Sends from a thread of its own. It follows no redirect, keeps no cookie, reads no environment."""

    def __init__(self, limits: Limits, *, step: str) -> None:
        self._limits, self._step = limits, step
        self._submitted: deque[_Exchange] = deque()
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._connecting: set[asyncio.Task[None]] = set()
        self._urls: dict[str, ParsedUrl] = {}
        self._origins: dict[str, Origin[Wire]] = {}
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="token-sender", daemon=True)
        self._thread.start()

    def submit(self, key: Hashable, request: Request, *, not_after: float) -> None:
        self._submitted.append(_Exchange(key, request, not_after))
        if len(self._submitted) == 1:
            self._loop.call_soon_threadsafe(self._begin)

    def next(self, *, seconds: float) -> Answer | None:
        try:
            return self._answers.get(timeout=seconds) if seconds else self._answers.get_nowait()
        except queue.Empty:
            return None

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _close(self) -> None:
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for origin in self._origins.values():
            origin.close()
        await asyncio.sleep(0)  # in which they learn of it

    def _begin(self) -> None:
        while self._submitted:
            self._start(self._submitted.popleft())

    def _start(self, exchange: _Exchange) -> None:
        exchange.started = time.monotonic()
        if exchange.started > exchange.not_after:
            late = ResponseTimeoutError("paused for too long after the claim; nothing was sent")
            self._answers.put(Answer(exchange.key, late, 0.0, was_sent=False))
            return
        exchange.deadline = self._loop.call_later(self._limits.total_seconds, self._expire, exchange)
        self._go(exchange)

    def _go(self, exchange: _Exchange) -> None:
        try:
            self._send_or_connect(exchange)
        except Exception as error:  # an answer must come, whatever it is
            self._finish(exchange, _verdict(error))

    def _send_or_connect(self, exchange: _Exchange) -> None:
        url = self._judged(exchange.request.url)
        origin = self._origins.get(url.origin) or self._origins.setdefault(url.origin, token_origin(url, self._limits))
        wire = origin.idle_wire()
        if wire is not None:
            self._send(exchange, wire, url)
            return
        task = self._loop.create_task(self._connect_and_send(exchange, origin, url))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def _judged(self, text: str) -> ParsedUrl:
        if text not in self._urls:
            self._urls[text] = require_url(text, allowed=Allowance.current())
        return self._urls[text]

    async def _connect_and_send(self, exchange: _Exchange, origin: Origin[Wire], url: ParsedUrl) -> None:
        try:
            self._send(exchange, await origin.new_wire(), url)
        except Exception as error:
            self._finish(exchange, _verdict(error))

    def _send(self, exchange: _Exchange, wire: Wire, url: ParsedUrl) -> None:
        if exchange.deadline is not None and exchange.deadline.when() <= self._loop.time():
            raise ResponseTimeoutError("connected too late; nothing was sent")
        exchange.wire = wire
        data = _as_bytes(proved(exchange.request), url)
        wire.send(data, url=url.url, told=lambda outcome: self._answered(exchange, outcome))

    def _answered(self, exchange: _Exchange, outcome: Response | FlowError) -> None:
        """Send once more where the server asks for its nonce. RFC 9449 §8."""
        try:
            if isinstance(outcome, Response):
                note_nonce(outcome, request=exchange.request)
        except NonceAskedError as error:
            outcome = error
            if not exchange.is_second:
                # The connection of the first try may carry somebody else's request by now.
                exchange.is_second, exchange.wire = True, None
                self._loop.call_soon(self._go, exchange)
                return
        self._finish(exchange, outcome)

    def _expire(self, exchange: _Exchange) -> None:
        if exchange.wire is not None:
            exchange.wire.abandon(ResponseTimeoutError("no response in time"))

    def _finish(self, exchange: _Exchange, outcome: Response | FlowError) -> None:
        if exchange.deadline is not None:
            exchange.deadline.cancel()
        seconds = time.monotonic() - exchange.started
        self._answers.put(Answer(exchange.key, outcome, seconds))
        failed = outcome if isinstance(outcome, FlowError) else None
        status = outcome.status if isinstance(outcome, Response) else None
        tell_request_done(self._step, status=status, error=failed, seconds=seconds)


class _Exchange:
    """One request on its way."""

    __slots__ = ("deadline", "is_second", "key", "not_after", "request", "started", "wire")

    def __init__(self, key: Hashable, request: Request, not_after: float) -> None:
        self.key, self.request, self.not_after = key, request, not_after
        self.started, self.is_second = 0.0, False
        self.deadline: asyncio.TimerHandle | None = None
        self.wire: Wire | None = None


def _verdict(error: Exception) -> FlowError:
    return error if isinstance(error, FlowError) else TransportError(f"no response: {type(error).__name__}")


def _as_bytes(request: Request, url: ParsedUrl) -> bytes:
    body = _form(request.form or {}) if request.content is None else request.content
    headers = {"Host": url.authority, **_HEADERS, **request.headers, "Content-Length": str(len(body))}
    lines = [f"{request.method} {url.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    head = "\r\n".join([*lines, "", ""])
    if not head.count("\r") == head.count("\n") == len(lines) + 1:
        raise ValueError("a header with a line end")
    return head.encode("ascii") + body


def _form(fields: Mapping[str, str]) -> bytes:
    return "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in fields.items()).encode("ascii")


def _quoted(text: str) -> str:
    return text if _UNRESERVED(text) else quote_plus(text)
