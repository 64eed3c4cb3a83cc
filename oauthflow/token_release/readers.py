"""Ask for grants: SQLite at once in the event loop's thread, PostgreSQL by a thread that asks for many in one go."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

import psycopg
from django.db import connection

from .batches import Batches
from .statements import POSTGRESQL, SQLITE, Grant, StoredTokens, grant_of

USE_IS_OLD_AFTER: Final = timedelta(minutes=1)
_CAPACITY: Final = 2000
# Whoever waits here keeps everybody waiting; readers wait for writers only while the write-ahead log is set up.
_SQLITE_WAIT_SECONDS: Final = 0.05


class Reader(Protocol):
    """Finds the grant that an API token and a connection make, if it is a plain one."""

    async def find(self, token_hash: str, connection_id: str) -> Grant | None:
        """Return what is stored at this moment.

        Raises:
            Exception: Whatever the database driver raises, and `BatchesFullError`.
        """

    def typed(self, stored: StoredTokens) -> StoredTokens:
        """Return the same with Python's ids and moments."""

    async def close(self) -> None:
        """End threads and connections."""


def open_reader() -> Reader | None:
    """Return the reader for this database, or None for one that this package does not speak."""
    if connection.vendor == "sqlite":
        return SqliteReader(str(connection.settings_dict["NAME"]))
    if connection.vendor == "postgresql":
        return PostgresqlReader(connection.get_connection_params())
    return None


class SqliteReader:
    """For the thread of the event loop only: a statement takes microseconds, and no writer delays it."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, timeout=_SQLITE_WAIT_SECONDS, isolation_level=None)
        self._connection.execute("PRAGMA query_only = ON")

    async def find(self, token_hash: str, connection_id: str) -> Grant | None:
        now = datetime.now(UTC).replace(tzinfo=None)
        parameters = (token_hash, connection_id.replace("-", ""), str(now), str(now - USE_IS_OLD_AFTER))
        found = self._connection.execute(SQLITE, parameters).fetchone()
        return grant_of(found) if found else None

    def typed(self, stored: StoredTokens) -> StoredTokens:
        return stored._replace(
            id=UUID(stored.id),
            connection_id=UUID(stored.connection_id),
            obtained_at=_moment(stored.obtained_at),
            expires_at=_moment(stored.expires_at) if stored.expires_at else None,
        )

    async def close(self) -> None:
        self._connection.close()


class PostgresqlReader:
    """One connection outside of Django's pool, in a thread of its own."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        wanted = {name: value for name, value in parameters.items() if name not in ("cursor_factory", "context")}
        self._parameters = wanted
        self._connection: psycopg.Connection[Any] | None = None
        self._batches: Batches[tuple[str, str], Grant | None] = Batches(
            self._find_all, at_end=self._disconnect, name="token-release-reader", capacity=_CAPACITY
        )

    async def find(self, token_hash: str, connection_id: str) -> Grant | None:
        return await self._batches.put((token_hash, connection_id))

    def typed(self, stored: StoredTokens) -> StoredTokens:
        return stored._replace(
            obtained_at=stored.obtained_at.astimezone(UTC),
            expires_at=stored.expires_at.astimezone(UTC) if stored.expires_at else None,
        )

    async def close(self) -> None:
        await self._batches.close()

    def _find_all(self, asked: Sequence[tuple[str, str]]) -> list[Grant | None]:
        try:
            return self._ask(asked)
        except psycopg.OperationalError:  # the server was restarted since: once more, on a new connection
            self._disconnect()
            return self._ask(asked)

    def _ask(self, asked: Sequence[tuple[str, str]]) -> list[Grant | None]:
        if self._connection is None:
            self._connection = psycopg.connect(**self._parameters, autocommit=True)
        now = datetime.now(UTC)
        hashes, ids = zip(*asked, strict=True)
        parameters = (now, now - USE_IS_OLD_AFTER, list(hashes), list(ids))
        found: list[Grant | None] = [None] * len(asked)
        for number, *columns in self._connection.execute(POSTGRESQL, parameters, prepare=True, binary=True):
            found[number - 1] = grant_of(tuple(columns))
        return found

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
