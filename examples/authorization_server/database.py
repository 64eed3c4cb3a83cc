"""The one SQLite file. Whatever would let somebody in is kept as a SHA-256 hash only.

One process, one thread and one connection serve all requests, and no handler awaits anything between reading and
writing: each handler's statements therefore run as if it were alone. A server with several workers would need
conditional updates instead.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS clients (
    client_id TEXT PRIMARY KEY,
    secret_hash TEXT,               -- NULL: a public client
    registration_token_hash TEXT,   -- NULL: not registered dynamically
    name TEXT NOT NULL,
    redirect_uris TEXT NOT NULL,    -- JSON list
    grant_types TEXT NOT NULL,      -- JSON list
    registered_at INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS logins (
    hash TEXT PRIMARY KEY,
    subject TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS requests (
    hash TEXT PRIMARY KEY,
    client_id TEXT NOT NULL REFERENCES clients ON DELETE CASCADE,
    redirect_uri TEXT NOT NULL,
    state TEXT NOT NULL,
    scope TEXT NOT NULL,
    resource TEXT NOT NULL,
    code_challenge TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS grants (
    grant_id INTEGER PRIMARY KEY,
    client_id TEXT NOT NULL REFERENCES clients ON DELETE CASCADE,
    subject TEXT NOT NULL,
    scope TEXT NOT NULL,
    resource TEXT NOT NULL,
    granted_at INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS tokens (
    hash TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('code', 'access', 'refresh')),
    grant_id INTEGER NOT NULL REFERENCES grants ON DELETE CASCADE,
    scope TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,     -- codes only
    code_challenge TEXT NOT NULL,   -- codes only
    spent INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS tokens_of_grant ON tokens (grant_id);
"""

_PURGE = (
    "DELETE FROM logins WHERE expires_at <= ?",
    "DELETE FROM requests WHERE expires_at <= ?",
    "DELETE FROM tokens WHERE expires_at <= ?",
)


def open_database(path: Path) -> sqlite3.Connection:
    """Open the file, making it (readable by its owner only) where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(_SCHEMA)
    return database


def new_secret() -> str:
    """Make 256 random bits, enough for a fast hash to keep them safe."""
    return secrets.token_urlsafe(32)


def hashed(secret: str) -> str:
    """Return what the database keeps in place of `secret`."""
    return hashlib.sha256(secret.encode()).hexdigest()


def seconds_now() -> int:
    """Return the time in whole seconds since 1970, as OAuth counts it."""
    return int(time.time())


def purge_expired(database: sqlite3.Connection) -> None:
    """Delete what no longer opens anything, and the grants that have nothing left."""
    with database:
        for statement in _PURGE:
            database.execute(statement, (seconds_now(),))
        database.execute("DELETE FROM grants WHERE grant_id NOT IN (SELECT grant_id FROM tokens)")
