"""Two changes at the same moment on PostgreSQL, the second begun where the first holds a lock: neither may fail.

Where each waited for a row of the other, PostgreSQL would stop one of them after a second.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from time import sleep
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections, transaction
from django.db.models import QuerySet

on_postgresql = pytest.mark.skipif(
    "postgresql" not in settings.DATABASES["default"]["ENGINE"], reason="SQLite has one writer"
)
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def at_once(first: Callable[[], object], second: Callable[[], object], *, holding: str, taking: str = "$.") -> bool:
    """Begin the second when the first has executed a statement that `holding` matches, and go on with the first then.

    Args:
        first: Goes on when the second waits for a lock, or has executed a statement that `taking` matches.
        second: Begins then.
        holding: A regular expression, matched from the beginning of the statement.
        taking: The same; where it is left out, the second has to wait, or to end.

    Returns:
        Whether the second had to wait.
    """
    held, taken, waited, wrong = threading.Event(), threading.Event(), threading.Event(), list[BaseException]()

    def go_on() -> None:
        held.set()
        while not taken.is_set() and second_thread.is_alive():
            if _somebody_waits():
                waited.set()
                break
            sleep(0.005)

    def begin_second() -> None:
        assert held.wait(20), "the first never got there"
        second()

    second_thread = _thread(begin_second, wrong, pattern=taking, reached=taken.set)
    first_thread = _thread(first, wrong, pattern=holding, reached=go_on)
    for thread in (second_thread, first_thread):
        thread.start()
    for thread in (first_thread, second_thread):
        thread.join(60)
    assert not wrong, wrong
    return waited.is_set()


def one_behind_the_other(rows: QuerySet[Any], *works: Callable[[], object]) -> None:
    """Lock these rows, begin each work when the one before waits, and let the rows go when all wait."""
    wrong: list[BaseException] = []
    threads = [_thread(work, wrong) for work in works]
    with transaction.atomic():
        list(rows.select_for_update())
        for count, thread in enumerate(threads, start=1):
            thread.start()
            _until_so_many_wait(count)
    for thread in threads:
        thread.join(60)
    assert not wrong, wrong


def _until_so_many_wait(count: int) -> None:
    for _ in range(4000):
        if _somebody_waits(count):
            return
        sleep(0.005)
    raise AssertionError("nobody waits")


def _somebody_waits(count: int = 1) -> bool:
    """On the connection of this thread, past what watches its statements."""
    connection.ensure_connection()
    with connection.connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        return bool(cursor.execute(_WAITING).fetchone()[0] >= count)


def _thread(
    work: Callable[[], object],
    wrong: list[BaseException],
    *,
    pattern: str = "$.",
    reached: Callable[[], None] = lambda: None,
) -> threading.Thread:
    def look(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        done = execute(sql, params, many, context)
        if re.match(pattern, str(sql), re.DOTALL):
            reached()
        return done

    def run() -> None:
        try:
            with connection.execute_wrapper(look):
                work()
        except BaseException as error:
            wrong.append(error)
        finally:
            connections.close_all()

    return threading.Thread(target=run)
