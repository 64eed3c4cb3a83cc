"""Threads for what an event loop asks seldom, and what may take long: flows, and the ORM."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from django.db import connection

Result = TypeVar("Result")


class Threads:
    """A pool of its own, so that nobody who is slow keeps others waiting. `run` belongs to the event loop's thread."""

    def __init__(self, most: int, *, name: str) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix=name)

    async def run(self, call: Callable[[], Result]) -> Result:
        """Return what it returns, or raise what it raises; it goes on where the caller goes away."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, copy_context().run, _closing, call)

    async def close(self) -> None:
        """Let what is under way come to its end."""
        await asyncio.to_thread(self._pool.shutdown)


def _closing(call: Callable[[], Result]) -> Result:
    try:
        return call()
    finally:
        connection.close()
