"""Asking on every call: a change is noticed by the next one, and nothing is looked up twice without one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from oauthflow.hot_path import questions
from oauthflow.hot_path.questions import PostgresqlAsker, Question, SqliteAsker

NAMED = Question(
    "t.value", "thing t", "t.name = w.name AND t.until > w.now", {"name": "text", "now": "timestamptz"}, read=tuple
)
ON_POSTGRESQL = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="the other database")


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
    clock += 1.1
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


@ON_POSTGRESQL
@pytest.mark.django_db
async def test_postgresql_is_asked_once_for_all_who_ask_the_same_and_plans_it_once() -> None:
    counted = Question(
        "t.value, w.now, count(*) OVER ()",
        "(VALUES ('a', 1), ('b', 2)) t (name, value)",
        "t.name = w.name",
        {"name": "text", "now": "timestamptz"},
        read=tuple,
    )
    asker = PostgresqlAsker(connection.get_connection_params(), name="test")
    moments = [datetime(2026, 11, 21, 12, minute, tzinfo=UTC) for minute in range(5)]

    async def ask_all() -> list[object]:
        return await asyncio.gather(*(asker.ask(counted, *asked) for asked in zip("abaca", moments, strict=True)))

    a, b = (1, moments[4], 2), (2, moments[1], 2)
    assert await ask_all() == [a, b, a, None, a]
    assert await ask_all() == [a, b, a, None, a]
    assert asker._connection is not None
    (prepared,) = asker._connection.execute("SELECT count(*) FROM pg_prepared_statements", prepare=False).fetchall()
    assert prepared == (1,)
    await asker.close()


@ON_POSTGRESQL
@pytest.mark.django_db
async def test_a_column_that_a_migration_changes_is_asked_for_again() -> None:
    asker = PostgresqlAsker(connection.get_connection_params(), name="test")
    named = Question("t.value", "thing t", "t.name = w.name", {"name": "text"}, read=tuple)
    with psycopg.connect(**asker._parameters, autocommit=True) as migrating:
        migrating.execute("CREATE TABLE thing AS SELECT 'a' AS name, 'b'::varchar(10) AS value")
        try:
            assert await asker.ask(named, "a") == ("b",)
            migrating.execute("ALTER TABLE thing ALTER COLUMN value TYPE varchar(20)")
            assert await asker.ask(named, "a") == ("b",)
        finally:
            await asker.close()
            migrating.execute("DROP TABLE thing")
