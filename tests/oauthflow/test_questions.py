"""Asking SQLite on every call: a change is noticed by the next one, and nothing is looked up twice without one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from oauthflow.hot_path import questions
from oauthflow.hot_path.questions import Question, SqliteAsker

NAMED = Question(
    "t.value", "thing t", "t.name = w.name AND t.until > w.now", {"name": "text", "now": "timestamptz"}, read=tuple
)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "file", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE thing (name TEXT, value INT, until TEXT)")
    connection.execute("INSERT INTO thing VALUES ('a', 1, '2030'), ('b', 2, '2030')")
    yield connection
    connection.close()


async def test_a_change_is_seen_by_the_next_call_and_what_did_not_change_is_asked_once(
    writer: sqlite3.Connection, tmp_path: Path
) -> None:
    asker, statements = SqliteAsker(str(tmp_path / "file")), []
    asker._connection.set_trace_callback(lambda text: statements.append(text))

    async def ask(name: str, *, minute: int = 0) -> object:
        await asyncio.sleep(0)  # a turn of the event loop later
        return await asker.ask(NAMED, name, datetime(2026, 11, 21, 12, minute, tzinfo=UTC))

    assert [await ask("a"), await ask("b"), await ask("c"), await ask("a", minute=1), await ask("c")] == [
        (1,), (2,), None, (1,), None,
    ]  # fmt: skip
    assert len([text for text in statements if text.startswith("SELECT")]) == 3
    writer.execute("UPDATE thing SET value = 7 WHERE name = 'a'")
    assert await ask("a") == (7,)
    writer.execute("DELETE FROM thing")
    assert await ask("a") is None
    writer.execute("INSERT INTO thing VALUES ('a', 9, '2030')")
    assert await ask("a") == (9,)
    await asker.close()


async def test_an_answer_that_depends_on_the_moment_stands_for_a_moment_only(
    writer: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker, clock = SqliteAsker(str(tmp_path / "file")), 100.0
    monkeypatch.setattr(questions, "monotonic", lambda: clock)
    assert await asker.ask(NAMED, "a", datetime(2029, 1, 1, tzinfo=UTC)) == (1,)
    clock += 0.3
    await asyncio.sleep(0)
    assert await asker.ask(NAMED, "a", datetime(2031, 1, 1, tzinfo=UTC)) is None
    await asker.close()


async def test_a_change_is_looked_for_once_in_a_turn_of_the_loop_and_is_another_state(
    writer: sqlite3.Connection, tmp_path: Path
) -> None:
    asker, statements = SqliteAsker(str(tmp_path / "file")), []
    asker._connection.set_trace_callback(lambda text: statements.append(text))
    before = asker.state()
    assert await asker.ask(NAMED, "a", datetime(2026, 11, 21, tzinfo=UTC)) == (1,)
    assert asker.state() is before
    assert [text for text in statements if text.startswith("PRAGMA")] == ["PRAGMA data_version"]
    await asyncio.sleep(0)
    assert asker.state() is before
    writer.execute("UPDATE thing SET value = 7 WHERE name = 'a'")
    await asyncio.sleep(0)
    assert asker.state() is not before
    assert await asker.ask(NAMED, "a", datetime(2026, 11, 21, tzinfo=UTC)) == (7,)
    await asker.close()
