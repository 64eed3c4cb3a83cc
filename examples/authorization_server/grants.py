"""What a person has granted, and the codes and tokens that came of it.

A grant is the family: revoking it deletes the row, and every code and token of it goes with the row.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Literal

from .database import hashed, new_secret, seconds_now

Kind = Literal["code", "access", "refresh"]


@dataclass(frozen=True, slots=True)
class Grant:
    """One consent. `resource` is what RFC 8707 bound it to, or empty."""

    grant_id: int
    client_id: str
    subject: str
    scope: str
    resource: str
    granted_at: int


@dataclass(frozen=True, slots=True)
class Token:
    """One code, access or refresh token as kept; `scope` may be less than its grant's."""

    hash: str
    grant: Grant
    scope: str
    redirect_uri: str
    code_challenge: str
    spent: bool
    expires_at: int


def create_grant(database: sqlite3.Connection, *, client_id: str, subject: str, scope: str, resource: str) -> int:
    """Record a consent and return its id."""
    with database:
        cursor = database.execute(
            "INSERT INTO grants (client_id, subject, scope, resource, granted_at) VALUES (?, ?, ?, ?, ?)",
            (client_id, subject, scope, resource, seconds_now()),
        )
    return cursor.lastrowid or 0


def grants_of(database: sqlite3.Connection, *, subject: str) -> list[Grant]:
    """Return what `subject` has granted, newest first."""
    rows = database.execute("SELECT * FROM grants WHERE subject = ? ORDER BY grant_id DESC", (subject,))
    return [Grant(**dict(row)) for row in rows]


def revoke_grant(database: sqlite3.Connection, *, grant_id: int) -> None:
    """End a grant with everything that came of it."""
    with database:
        database.execute("DELETE FROM grants WHERE grant_id = ?", (grant_id,))


def issue_token(
    database: sqlite3.Connection,
    *,
    kind: Kind,
    grant_id: int,
    scope: str,
    lifetime_seconds: int,
    redirect_uri: str = "",
    code_challenge: str = "",
) -> str:
    """Make a code or token of a grant. It is returned this once and kept as a hash."""
    token = new_secret()
    expires_at = seconds_now() + lifetime_seconds
    with database:
        database.execute(
            "INSERT INTO tokens (hash, kind, grant_id, scope, redirect_uri, code_challenge, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (hashed(token), kind, grant_id, scope, redirect_uri, code_challenge, expires_at),
        )
    return token


def find_token(database: sqlite3.Connection, token: str, *, kind: Kind) -> Token | None:
    """Return the token that has not expired, spent or not; None for anything else."""
    row = database.execute(
        "SELECT * FROM tokens WHERE hash = ? AND kind = ? AND expires_at > ?", (hashed(token), kind, seconds_now())
    ).fetchone()
    if row is None:
        return None
    grant = database.execute("SELECT * FROM grants WHERE grant_id = ?", (row["grant_id"],)).fetchone()
    return Token(
        hash=row["hash"],
        grant=Grant(**dict(grant)),
        scope=row["scope"],
        redirect_uri=row["redirect_uri"],
        code_challenge=row["code_challenge"],
        spent=bool(row["spent"]),
        expires_at=row["expires_at"],
    )


def spend_token(database: sqlite3.Connection, token: Token) -> None:
    """Mark a code or refresh token as used: shown again, it gives the theft away."""
    with database:
        database.execute("UPDATE tokens SET spent = 1 WHERE hash = ?", (token.hash,))


def revoke_token(database: sqlite3.Connection, token: Token) -> None:
    """End this one token."""
    with database:
        database.execute("DELETE FROM tokens WHERE hash = ?", (token.hash,))
