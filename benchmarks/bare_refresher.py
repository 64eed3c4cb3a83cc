"""The reference of the refresher: the same job done bare, by asyncio and aiohttp.

Rows are leased many at a time, opened, sent, sealed, and written many at a time where their version is unchanged. It
keeps no audit record, tells no event, spools no answer, knows one kind of client, and no limits of an issuer.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import uvloop
from cryptography.fernet import Fernet

from .refresher import require

_FLUSH_SECONDS = 0.02
_CREATE = (
    "CREATE TABLE bare_tokens (id integer PRIMARY KEY, url text, refresh_token text, access_token text,"
    " version integer, is_due integer, is_leased integer)",
    "CREATE INDEX bare_tokens_due ON bare_tokens (is_due, id)",
)
_INSERT = "INSERT INTO bare_tokens (id, url, refresh_token, version, is_due, is_leased) VALUES (%s, %s, %s, %s, %s, %s)"
_LEASE = (
    "UPDATE bare_tokens SET is_leased = 1 WHERE id IN (SELECT id FROM bare_tokens WHERE is_due = 1 AND is_leased = 0"
    " LIMIT 512) RETURNING id, url, refresh_token, version"
)
_WRITTEN = {"id": "integer", "version": "integer", "access_token": "text", "refresh_token": "text"}
_WRITE = (
    "UPDATE bare_tokens AS t SET access_token = r.access_token, refresh_token = r.refresh_token, is_due = 0,"
    " is_leased = 0, version = t.version + 1 FROM {recordset} WHERE t.id = r.id AND t.version = r.version"
)
Row = tuple[int, str, str, int]
"""Id, address, sealed refresh token, version."""


class BareRefresher:
    """A table of its own in the product's database, and the job."""

    def __init__(self, origin: str, families: Sequence[str], *, issuers: int) -> None:
        """Make the table anew, a row for each family, all due."""
        from django.db import connection

        self._fernet = Fernet(Fernet.generate_key())
        rows = [
            (number, f"{origin}/{number % issuers}/token", self._sealed(f"rt-{family}-0"), 1, 1, 0)
            for number, family in enumerate(families)
        ]
        with connection.cursor() as cursor:
            for statement in ("DROP TABLE IF EXISTS bare_tokens", *_CREATE):
                cursor.execute(statement)
            cursor.executemany(_INSERT, rows)
        self._waiting: deque[Row] = deque()
        self._answered: list[dict[str, Any]] = []
        self._is_over = False

    def refresh(self, *, in_flight: int) -> None:
        """Refresh all rows, so many at a time."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, ThreadPoolExecutor(1) as database:
            runner.run(self._refresh(in_flight, database))
            database.submit(_end_session).result()

    def renewed(self) -> int:
        """Return how many rows were refreshed once."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM bare_tokens WHERE version = 2 AND is_due = 0")
            return int(cursor.fetchone()[0])

    async def _refresh(self, in_flight: int, database: ThreadPoolExecutor) -> None:
        loop, turn = asyncio.get_running_loop(), asyncio.Lock()

        async def next_row() -> Row | None:
            async with turn:
                if not self._waiting:
                    self._waiting += await loop.run_in_executor(database, _lease)
            return self._waiting.popleft() if self._waiting else None

        async def send(session: aiohttp.ClientSession) -> None:
            while (row := await next_row()) is not None:
                async with session.post(row[1], data=self._form(row)) as answer:
                    self._answered.append(self._sealed_answer(row, json.loads(await answer.read())))

        async def write() -> None:
            while self._answered or not self._is_over:
                await asyncio.sleep(_FLUSH_SECONDS)
                answers, self._answered = self._answered, []
                if answers:
                    await loop.run_in_executor(database, _write, answers)

        connector = aiohttp.TCPConnector(limit=in_flight)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            writing = asyncio.create_task(write())
            await asyncio.gather(*(send(session) for _ in range(in_flight)))
            self._is_over = True
            await writing

    def _form(self, row: Row) -> dict[str, str]:
        refresh_token = self._fernet.decrypt(row[2]).decode()
        return {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": "us"}

    def _sealed_answer(self, row: Row, document: dict[str, str]) -> dict[str, Any]:
        require("access_token" in document, f"the bare request was answered with {document}")
        tokens = {name: self._sealed(document[name]) for name in ("access_token", "refresh_token")}
        return {"id": row[0], "version": row[3], **tokens}

    def _sealed(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode()


def _lease() -> list[Row]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(_LEASE)
        return list(cursor.fetchall())


def _write(answers: Sequence[dict[str, Any]]) -> None:
    from django.db import connection

    from connections.recordset import recordset

    with connection.cursor() as cursor:
        cursor.execute(_WRITE.format(recordset=recordset(_WRITTEN)), [json.dumps(answers)])


def _end_session() -> None:
    from django.db import connection

    connection.close()
