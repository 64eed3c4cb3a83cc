"""A thread that does work for the event loop, all at once what came in while it was busy."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

from django.db import connection

Item = TypeVar("Item")
Result = TypeVar("Result")
Batch: TypeAlias = list[tuple[Item, asyncio.Future[Result]]]
_MANY: Final = 500
_LOOKS: Final = 4  # while somebody's patience lasts
_COME_BACK: Final = 10  # times the moment of gathering: who has not by then was not waited for


class BatchesFullError(Exception):
    """As much is waiting as may; the caller should come back later."""


class StuckError(BatchesFullError):
    """The thread has been at the same work for too long; the caller should come back later."""


class Batches(Generic[Item, Result]):
    """Hands items to a function in a thread of its own, in the order in which they came.

    What arrives in one turn of the event loop is handed over together, and so is what arrives while the thread is busy.
    Where callers come in crowds, those who were just served are given a moment to come back: half as many batches for
    the same work. `put` and `close` belong to the event loop's thread.

    Args:
        work: Takes items and returns as many results; what it raises reaches everybody whose item was among them.
        afterwards: Called with the items that were worked on, once their results are on their way; must not raise.
        at_end: Called in the thread when it ends. If not given, Django's connection of that thread is closed: what
            `connection` stands for differs from thread to thread.
        name: Of the thread.
        capacity: How many items may wait or be worked on.
        gathering_seconds: That moment; a caller who is alone never waits.
        patience_seconds: How long one piece of work may take before everybody who waits gets a `StuckError`, and who
            comes meanwhile soon after; the work goes on. None: they wait for as long as it takes.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        afterwards: Callable[[Sequence[Item]], None] = lambda items: None,
        at_end: Callable[[], None] = lambda: connection.close(),
        name: str,
        capacity: int,
        gathering_seconds: float = 0.0,
        patience_seconds: float | None = None,
    ) -> None:
        self._work, self._afterwards, self._at_end, self._capacity = work, afterwards, at_end, capacity
        self._gathering_seconds, self._crowded_until = gathering_seconds, 0.0
        self._patience_seconds, self._working_since = patience_seconds, float("inf")
        self._waiting: set[asyncio.Future[Result]] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._gathered: Batch[Item, Result] = []
        self._handed: queue.SimpleQueue[Batch[Item, Result] | None] = queue.SimpleQueue()
        self._unfinished = 0
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> asyncio.Future[Result]:
        """Queue one item.

        Raises:
            BatchesFullError: `capacity` is used up. The future's own: see `patience_seconds`.
        """
        if self._unfinished >= self._capacity:
            raise BatchesFullError
        self._unfinished += 1
        future: asyncio.Future[Result] = self._loop.create_future()
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append((item, future))
        if self._patience_seconds is not None:
            self._waiting.add(future)
            if self._looking is None:
                self._look_later()
        return future

    async def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._hand_over()
        self._handed.put(None)
        await asyncio.to_thread(self._thread.join)

    def _hand_over(self) -> None:
        if self._gathered:
            self._handed.put(self._gathered)
            self._gathered = []

    def _look_later(self) -> None:
        if self._patience_seconds is not None:
            self._looking = self._loop.call_later(self._patience_seconds / _LOOKS, self._look)

    def _look(self) -> None:
        self._looking = None
        if self._patience_seconds is not None and time.monotonic() - self._working_since >= self._patience_seconds:
            for future in self._waiting:
                if not future.done():
                    future.set_exception(StuckError())
            self._waiting.clear()
        if self._unfinished:
            self._look_later()

    def _run(self) -> None:
        try:
            while self._work_on(self._next()):
                continue
        finally:
            self._at_end()

    def _work_on(self, batch: Batch[Item, Result]) -> bool:
        """Return whether there was anything to do; nothing of it is kept while the thread waits for more."""
        if not batch:
            return False
        items, futures = zip(*batch, strict=True)
        self._working_since = time.monotonic()
        try:
            results, error = self._work(items), None
        except Exception as raised:
            results, error = [], raised
        self._working_since = float("inf")
        if len(items) > 1:
            self._crowded_until = time.monotonic() + _COME_BACK * self._gathering_seconds
        self._loop.call_soon_threadsafe(self._settle, futures, results, error)
        if error is None:
            self._afterwards(items)
        return True

    def _next(self) -> Batch[Item, Result]:
        """Wait for items; return them with all that came meanwhile, or nothing at the end."""
        batch: Batch[Item, Result] = []
        handed = self._handed.get()
        if handed is not None and time.monotonic() < self._crowded_until:
            time.sleep(self._gathering_seconds)
        while handed is not None:
            batch += handed
            if self._handed.empty() or len(batch) >= _MANY:
                return batch
            handed = self._handed.get()
        if batch:
            self._handed.put(None)
        return batch

    def _settle(
        self, futures: Sequence[asyncio.Future[Result]], results: Sequence[Result], error: Exception | None
    ) -> None:
        self._unfinished -= len(futures)
        self._waiting.difference_update(futures)
        for number, future in enumerate(futures):
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(results[number])
