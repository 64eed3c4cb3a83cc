"""Threads for what an event loop asks seldom, and what may take long: flows, and the ORM."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from django.db import connection

from .batches import StuckError

Result = TypeVar("Result")


class Threads:
    """A pool of its own, so that nobody who is slow keeps others waiting. `run` belongs to the event loop's thread.

    Args:
        most: How many threads.
        name: Of the threads.
        patience_seconds: How long a caller waits; None: for as long as it takes.
    """

    def __init__(self, most: int, *, name: str, patience_seconds: float | None = None) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix=name)
        self._patience_seconds = patience_seconds

    async def run(self, call: Callable[[], Result]) -> Result:
        """Return what it returns, or raise what it raises; it goes on where the caller goes away.

        Raises:
            StuckError: It took too long.
        """
        loop = asyncio.get_running_loop()
        under_way = loop.run_in_executor(self._pool, copy_context().run, _closing, call)
        if self._patience_seconds is not None:
            await asyncio.wait((under_way,), timeout=self._patience_seconds)
            if not under_way.done():
                under_way.cancel()  # where it waits for a thread
                raise StuckError
        return await under_way

    async def close(self) -> None:
        """Let what is under way come to its end."""
        await asyncio.to_thread(self._pool.shutdown)


def _closing(call: Callable[[], Result]) -> Result:
    try:
        return call()
    finally:
        connection.close()
