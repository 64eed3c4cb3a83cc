"""Many callers at the same moment, each with a database connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connections

Result = TypeVar("Result")


def all_at_once(count: int, work: Callable[[], Result]) -> list[Result | Exception]:
    """Call `work` in that many threads that start together; return what each returned or raised."""
    start = threading.Barrier(count)

    def one(_: int) -> Result | Exception:
        start.wait(timeout=30)
        try:
            return work()
        except Exception as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
