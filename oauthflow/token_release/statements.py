"""What a release of a token asks the database, in SQL. The tests hold it against the models.

One statement for each call (or for all calls that arrived while the one before was under way), so that a token
revoked, a person deactivated or a connection given up is noticed by the very next call. It finds the plain case only:
a valid API token, its owner's own active OAuth connection, and a server that is open to them. What it does not find
is looked at by the view, which also says why.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from oauthflow.hot_path.access import OPEN_TO_USER
from oauthflow.hot_path.questions import Question, Row, as_moment, as_uuid


class StoredTokens(NamedTuple):
    """Columns of a token set, as the database gives them."""

    id: Any
    connection_id: Any
    generation: int
    access_token_sealed: str
    token_type: str
    scope: str
    resource: str
    obtained_at: Any
    expires_at: Any


class Grant(NamedTuple):
    """One row of the answer: who asks with what, and what they may have.

    `may_refresh` says of the tokens that they can be renewed without a person and do not pause after a failure.
    """

    user_id: int
    token_id: Any
    token_name: str
    token_scopes: str
    server_slug: str
    is_token_use_old: bool
    is_connection_use_old: bool
    may_refresh: bool
    tokens: StoredTokens


_GRANT: Final = """
  t.user_id, t.id, t.name, CAST(t.scopes AS text), s.slug,
  t.last_used_at IS NULL OR t.last_used_at <= w.stale,
  c.last_used_at IS NULL OR c.last_used_at < w.stale,
  (k.refresh_token_sealed <> '' OR k.grant_type <> 'authorization_code')
  AND (k.next_attempt_at IS NULL OR k.next_attempt_at <= w.now),
  k.id, k.connection_id, k.generation, k.access_token_sealed, k.token_type, k.scope, k.resource,
  k.obtained_at, k.expires_at
"""
_TABLES: Final = """
  connections_apitoken t
JOIN auth_user u ON u.id = t.user_id
JOIN connections_connection c ON c.id = w.connection_id AND c.user_id = t.user_id
JOIN connections_mcpserver s ON s.id = c.server_id
JOIN connections_tokenset k ON k.connection_id = c.id
"""
_CONDITIONS: Final = """
  t.token_hash = w.token_hash AND u.is_active
  AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > w.now)
  AND c.status = 'active' AND s.auth_type = 'oauth' AND s.status <> 'inactive'
  AND """

_OF_GRANT: Final = len(Grant._fields) - 1


def _grant_of(row: Row) -> Grant:
    """Return an answer under names."""
    return Grant._make((*row[:_OF_GRANT], StoredTokens._make(row[_OF_GRANT:])))


QUESTION: Final = Question(
    _GRANT,
    _TABLES,
    _CONDITIONS + OPEN_TO_USER,
    asked={"token_hash": "text", "connection_id": "uuid", "now": "timestamptz", "stale": "timestamptz"},
    read=_grant_of,
)
"""`stale`: the moment before which a noted use is old."""


def typed(stored: StoredTokens) -> StoredTokens:
    """Return the same with Python's ids and moments."""
    return stored._replace(
        id=as_uuid(stored.id),
        connection_id=as_uuid(stored.connection_id),
        obtained_at=as_moment(stored.obtained_at),
        expires_at=as_moment(stored.expires_at) if stored.expires_at else None,
    )
