"""One timer for everything that is under way: deadlines, clients that leave, heartbeats. No task per stream for these.

Spec: security notes G13; MCP transports, cancellation. G-17, G-18.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from oauthflow.hot_path.collector import give_back

from ..conf import GatewayConfiguration
from ..endpoint.answers import FailedError
from ..endpoint.exchange import ClientGoneError, Exchange

TICK_SECONDS: Final = 0.25
MANY: Final = 500
"""After so many at once, what they took goes back to the system when most of them have ended."""
GIVEN_BACK_SECONDS: Final = 2.0  # until the others that end with them have ended too
HEARTBEAT: Final = b": \n\n"
"""A comment between two events. WHATWG HTML §9.2.6."""
StillMay = Callable[[], Awaitable[bool]]
_LATE: Final = "The server did not answer in time."
_OVER: Final = "This has been open for as long as it may be."


class StreamEndedError(Exception):
    """A stream may not stay open: its time is over, or its server does not keep to the rules.

    Attributes:
        message: For a client that waits for an answer in it.
    """

    def __init__(self, why: str, message: str) -> None:
        super().__init__(why)
        self.message = message


class RightEndedError(StreamEndedError):
    """Its caller was deactivated, the token ended, or the connection is another one."""


class LateError(StreamEndedError):
    """Its time is over, or its server was quiet for too long; the answer may still come, and be asked for again."""


class EndedHereError(LateError):
    """It was open for as long as any stream may be, nobody can say whether it still may be, or this process ends."""


class UnderWay:
    """What a client waits for. Times are seconds of the event loop.

    Attributes:
        deadline: When it ends without any other reason.
        is_left_to_finish: Whether a client that leaves wants it to go on: up to 2025-11-25 leaving cancels nothing.
        is_stream: Whether an event stream has begun.
        stays_open: Whether it is a stream for as long as both sides want, however quiet, and however long in sum.
        is_between_events: Whether a heartbeat may be put in.
        received_at: When the server sent something the last time.
        sent_at: When the client was sent something the last time.
        is_sending: Whether the client has not yet taken that.
        still_may: Says of an open stream whether its caller still has every right to it.
    """

    __slots__ = (
        "_all", "_beating", "_leaving", "_task", "_why", "deadline", "exchange", "is_between_events",
        "is_left_to_finish", "is_sending", "is_stream", "received_at", "sent_at", "stays_open", "still_may",
    )  # fmt: skip

    def __init__(
        self,
        exchange: Exchange,
        *,
        deadline: float,
        is_left_to_finish: bool,
        still_may: StillMay,
        others: set[UnderWay],
    ) -> None:
        self.exchange, self.deadline, self.is_left_to_finish = exchange, deadline, is_left_to_finish
        self._all = others
        self.still_may = still_may
        self.is_stream = self.is_sending = self.stays_open = False
        self.is_between_events = True
        self.received_at = self.sent_at = 0.0
        self._task = asyncio.current_task()
        self._leaving: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._why: Exception | None = None

    def stop(self, why: Exception) -> None:
        """Let whoever works on it get `why` in place of what they wait for."""
        if self._why is None and self._task is not None:
            # Who has not read what was sent does not read an end either: nobody waits for that.
            self._why = ClientGoneError() if self.is_sending else why
            self._task.cancel()

    def look(self, now: float, *, limits: GatewayConfiguration) -> None:
        """Do what is due. Only what takes longer than a tick is looked at, so that quick calls cost nothing."""
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._client_left())
        if now >= self.deadline:
            self.stop(self._time_is_over())
        elif self.is_sending:
            if now - self.sent_at >= limits.reading_seconds:
                self.stop(ClientGoneError())
        elif self.is_stream:
            self._look_at_stream(now, limits)

    def _time_is_over(self) -> Exception:
        if not self.is_stream:
            return FailedError(504, _LATE)
        if self.stays_open:
            return EndedHereError("its time is over", _OVER)
        return LateError("its time is over", _LATE)

    def _look_at_stream(self, now: float, limits: GatewayConfiguration) -> None:
        if not self.stays_open and now - self.received_at >= limits.idle_seconds:
            self.stop(LateError("the server was quiet for too long", _LATE))
        elif self.is_between_events and now - self.sent_at >= limits.heartbeat_seconds:
            self.is_sending, self.sent_at = True, now
            self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        if self.is_between_events:  # not any more where a part of an event has gone out since it was due
            await self.exchange.piece(HEARTBEAT)
            self.is_sending = False

    async def _client_left(self) -> None:
        while (await self.exchange.receive())["type"] != "http.disconnect":
            continue
        if not self.is_left_to_finish:
            self.stop(ClientGoneError())

    def __enter__(self) -> UnderWay:
        self._all.add(self)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Forget the client, and raise what it was stopped for in place of the cancellation."""
        self._all.discard(self)
        for task in (self._leaving, self._beating):
            if task is not None:
                task.cancel()
        why, task, self._why, self._task = self._why, self._task, None, None  # who still wants to stop it is too late
        if why is not None and task is not None and (error is None or isinstance(error, asyncio.CancelledError)):
            task.uncancel()
            try:
                raise why
            finally:
                # An error that is kept keeps the frames it went through, and those keep it: megabytes wait for the
                # collector.
                why.__context__ = None
                del why, error


class Watch:
    """Looks at everything under way four times a second, while there is something."""

    def __init__(self, limits: GatewayConfiguration) -> None:
        self._limits = limits
        self._under_way: set[UnderWay] = set()
        self._most = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time()

    def over(self, exchange: Exchange, *, seconds: float, is_left_to_finish: bool, still_may: StillMay) -> UnderWay:
        """Return what to enter: it watches over the block, which ends with the reason for which it was stopped.

        Raises in that block:
            FailedError: 504, it took longer than `seconds`.
            ClientGoneError: The client left, or reads nothing.
            StreamEndedError: A stream's time is over.
        """
        if self._timer is None:
            self.now = self._loop.time()
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        return UnderWay(
            exchange,
            deadline=self.now + seconds,
            is_left_to_finish=is_left_to_finish,
            still_may=still_may,
            others=self._under_way,
        )

    def streams(self) -> list[UnderWay]:
        """Return the event streams that are open."""
        return [one for one in self._under_way if one.is_stream]

    def _tick(self) -> None:
        self.now = now = self._loop.time()
        for under_way in tuple(self._under_way):
            under_way.look(now, limits=self._limits)
        self._most = max(self._most, len(self._under_way))
        if self._most >= MANY and len(self._under_way) < self._most / 10:
            self._most = 0
            self._loop.call_later(GIVEN_BACK_SECONDS, give_back)
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick) if self._under_way else None
