"""Ask the database from an event loop: SQLite at once, PostgreSQL by a thread that asks for many in one go."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from time import monotonic
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar
from uuid import UUID

import psycopg
from django.db import connection

from .batches import Batches, BatchesFullError

Row: TypeAlias = tuple[Any, ...]
Key: TypeAlias = tuple[object, ...]
Answer = TypeVar("Answer")

_CAPACITY: Final = 2000
# Whoever waits here keeps everybody waiting; readers wait for writers only while the write-ahead log is set up.
_SQLITE_WAIT_SECONDS: Final = 0.05
_MOMENT_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 5.0
"""How long a caller waits for a database that says nothing."""
_ASKED: Final = re.compile(r"\bw\.(\w+)")


@dataclass(frozen=True, eq=False)
class Question(Generic[Answer]):
    """A SELECT that finds one row at most, prepared once.

    Attributes:
        columns: What is asked for.
        tables: After FROM.
        conditions: After WHERE.
        asked: The names of what it is asked with, which the SQL has as `w.name`, each with its type in PostgreSQL;
            moments at the end.
        read: Makes the answer of the row, which has the types of the database driver: see `as_uuid` and `as_moment`.
    """

    columns: str
    tables: str
    conditions: str
    asked: Mapping[str, str]
    read: Callable[[Row], Answer]

    @cached_property
    def lasting(self) -> int:
        """How many of those are no moments, which are others each time."""
        return sum(kind != "timestamptz" for kind in self.asked.values())

    def key(self, asked: Sequence[object]) -> Key:
        """Return what is the same for all who ask this for the same, whatever the moment."""
        return self, *asked[: self.lasting]

    @cached_property
    def sqlite(self) -> str:
        """For one asker; parameters in the order of `asked`."""
        numbers = {name: number for number, name in enumerate(self.asked, start=1)}
        text = " ".join(("SELECT", self.columns, "FROM", self.tables, "WHERE", self.conditions))
        return _ASKED.sub(lambda found: f"?{numbers[found[1]]}", text)

    @cached_property
    def postgresql(self) -> str:
        """For many askers: each parameter is an array, and each row begins with the number of its asker, from 1."""
        arrays = ", ".join(f"%s::{kind}[]" for kind in self.asked.values())
        names = ", ".join((*self.asked, "number"))
        given = f"unnest({arrays}) WITH ORDINALITY AS w ({names}) CROSS JOIN"
        asked = ("SELECT w.number,", self.columns, "FROM", given, self.tables, "WHERE", self.conditions)
        return " ".join(asked)


UNANSWERED: Final = (sqlite3.Error, psycopg.Error, BatchesFullError)
"""What `ask` raises where the database is away or says nothing, or too much is asked."""


class Asker(Protocol):
    """Finds the row as it is at this moment."""

    async def ask(self, question: Question[Answer], *asked: object) -> Answer | None:
        """Return the answer.

        Raises:
            Exception: One of `UNANSWERED`.
        """

    def state(self) -> object:
        """Return the same object as long as every answer stands; another one each time where that is not known."""

    async def close(self) -> None:
        """End threads and connections."""


def open_asker(*, name: str) -> Asker | None:
    """Return one for this database, or None for a database that this package does not speak; `name` is its thread's."""
    if connection.vendor == "sqlite":
        return SqliteAsker(str(connection.settings_dict["NAME"]))
    if connection.vendor == "postgresql":
        return PostgresqlAsker(connection.get_connection_params(), name=name)
    return None


class SqliteAsker:
    """For the thread of the event loop only: a statement takes microseconds, and no writer delays it.

    Whether anything in the file has changed is looked at in every turn of the loop in which somebody asks: what they
    ask for came before it. While nothing has, the answer of a moment ago stands, for as long as moments that it was
    asked with may differ.
    """

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, timeout=_SQLITE_WAIT_SECONDS, isolation_level=None)
        self._connection.execute("PRAGMA query_only = ON")
        # One for all questions: a connection remembers two hundred cursors, which hold on to the memory around them.
        self._cursor = self._connection.cursor()
        self._answers: dict[Key, Any] = {}
        self._version, self._since, self._has_looked = -1, 0.0, False
        self._loop = asyncio.get_running_loop()

    async def ask(self, question: Question[Answer], *asked: object) -> Answer | None:
        if not self._has_looked:
            self._look()
        key = question.key(asked)
        try:
            answer: Answer | None = self._answers[key]
        except KeyError:
            row = self._cursor.execute(question.sqlite, [*map(as_in_sqlite, asked)]).fetchone()
            answer = self._answers[key] = question.read(row) if row is not None else None
        return answer

    def state(self) -> object:
        if not self._has_looked:
            try:
                self._look()
            except sqlite3.Error:
                return object()
        return self._answers

    def _look(self) -> None:
        (version,) = self._cursor.execute("PRAGMA data_version").fetchone()
        now = monotonic()
        if version != self._version or now - self._since > _MOMENT_SECONDS or len(self._answers) > _CAPACITY:
            self._answers, self._version, self._since = {}, version, now
        self._has_looked = True
        self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._has_looked = False

    async def close(self) -> None:
        self._connection.close()


class PostgresqlAsker:
    """One connection outside of Django's pool, in a thread of its own."""

    def __init__(self, parameters: Mapping[str, Any], *, name: str) -> None:
        wanted = {key: value for key, value in parameters.items() if key not in ("cursor_factory", "context")}
        # Django forbids prepared statements; planning takes PostgreSQL several times as long as finding the row.
        self._parameters = wanted | {"prepare_threshold": 0}
        self._connection: psycopg.Connection[Any] | None = None
        self._batches: Batches[tuple[Question[Any], tuple[object, ...]], Any] = Batches(
            self._ask_all, at_end=self._disconnect, name=name, capacity=_CAPACITY, patience_seconds=PATIENCE_SECONDS
        )

    async def ask(self, question: Question[Answer], *asked: object) -> Answer | None:
        answer: Answer | None = await self._batches.put((question, asked))
        return answer

    def state(self) -> object:
        return object()

    async def close(self) -> None:
        await self._batches.close()

    def _ask_all(self, calls: Sequence[tuple[Question[Any], tuple[object, ...]]]) -> list[Any]:
        try:
            return self._answers(calls)
        # The server was restarted since, or a migration changed a column: once more, on a new connection.
        except (psycopg.OperationalError, psycopg.NotSupportedError):
            self._disconnect()
            return self._answers(calls)

    def _answers(self, calls: Sequence[tuple[Question[Any], tuple[object, ...]]]) -> list[Any]:
        if self._connection is None:
            self._connection = psycopg.connect(**self._parameters, autocommit=True)
        # Who differs from another in nothing but the moment gets the same answer: that of the newest moment.
        asked = {question.key(given): given for question, given in calls}
        answers: dict[Key, Any] = {}
        for question in dict.fromkeys(question for question, _ in calls):
            keys = [key for key in asked if key[0] is question]
            arrays = [list(column) for column in zip(*map(asked.__getitem__, keys), strict=True)]
            for number, *row in self._connection.execute(question.postgresql, arrays, binary=True):
                answers[keys[number - 1]] = question.read(tuple(row))
        return [answers.get(question.key(given)) for question, given in calls]

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def as_uuid(value: UUID | str) -> UUID:
    """Return an id of an answer with Python's type."""
    return value if isinstance(value, UUID) else UUID(value)


def as_moment(value: datetime | str) -> datetime:
    """Return a moment of an answer as aware UTC."""
    if isinstance(value, str):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return value.astimezone(UTC)


def as_in_sqlite(value: object) -> object:
    """Return an id or a moment, aware, as Django's fields store it in SQLite; anything else as it is."""
    if isinstance(value, UUID):
        return value.hex
    return str(value.astimezone(UTC).replace(tzinfo=None)) if isinstance(value, datetime) else value
