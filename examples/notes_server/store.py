"""Notes and usage counts in one SQLite file, each row somebody's own."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

_SCHEMA = """
CREATE TABLE IF NOT EXISTS notes (
    note_id TEXT PRIMARY KEY,
    subject TEXT NOT NULL,
    title TEXT NOT NULL,
    content TEXT NOT NULL,
    created_at TEXT NOT NULL        -- ISO 8601, UTC
) STRICT;
CREATE TABLE IF NOT EXISTS usage (
    subject TEXT NOT NULL,
    tool TEXT NOT NULL,
    calls INTEGER NOT NULL,
    PRIMARY KEY (subject, tool)
) STRICT;
"""


class Note(BaseModel):
    """One note."""

    note_id: str
    title: str
    content: str
    created_at: str


class NoteStore:
    """The file. Tools run in threads, so each operation has a connection of its own."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._path = path
        with self._connection() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(_SCHEMA)

    def create(self, title: str, *, content: str, subject: str) -> Note:
        """Keep a note for `subject`."""
        created_at = datetime.now(UTC).isoformat(timespec="seconds")
        note = Note(note_id=secrets.token_hex(8), title=title, content=content, created_at=created_at)
        with self._connection() as database:
            values = (note.note_id, subject, note.title, note.content, note.created_at)
            database.execute("INSERT INTO notes VALUES (?, ?, ?, ?, ?)", values)
        return note

    def notes_of(self, subject: str) -> list[Note]:
        """Return what `subject` has kept, newest first."""
        query = "SELECT note_id, title, content, created_at FROM notes WHERE subject = ? ORDER BY rowid DESC"
        with self._connection() as database:
            return [Note(**dict(row)) for row in database.execute(query, (subject,))]

    def note(self, note_id: str, *, subject: str) -> Note | None:
        """Return one note of `subject`; somebody else's is as unknown as one that is not there."""
        return next((note for note in self.notes_of(subject) if note.note_id == note_id), None)

    def count_call(self, tool: str, *, subject: str) -> None:
        """Count one call."""
        with self._connection() as database:
            database.execute(
                "INSERT INTO usage VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET calls = calls + 1", (subject, tool)
            )

    def calls_of(self, subject: str) -> dict[str, int]:
        """Return the number of calls by tool."""
        query = "SELECT tool, calls FROM usage WHERE subject = ? ORDER BY tool"
        with self._connection() as database:
            return {row["tool"]: row["calls"] for row in database.execute(query, (subject,))}

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=10)) as database, database:
            database.row_factory = sqlite3.Row
            yield database
