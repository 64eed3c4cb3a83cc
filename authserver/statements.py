"""What the token endpoint asks the database, in SQL. The tests hold it against the models.

On PostgreSQL through psycopg's own cursor, which sends parameters beside the statement. Nothing is prepared: where a
migration changed a column meanwhile, an old plan would fail in the middle of somebody's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
from django.db import connection

from oauthflow.hot_path.questions import as_in_sqlite, as_moment, as_uuid

_CLIENT: Final = """
SELECT id, client_id, kind, token_endpoint_auth_method, client_secret_hash, CAST(jwks AS text),
  CAST(grant_types AS text), scope, last_used_at IS NULL OR last_used_at <= %s
FROM authserver_mcpclient
WHERE client_id = %s AND blocked_at IS NULL AND ended_at IS NULL AND (expires_at IS NULL OR expires_at > %s)
"""
_FAMILY: Final = """
SELECT f.id, f.client_id, f.consent_id, f.user_id, f.subject, f.resource, f.scope, f.is_refreshable, f.expires_at,
  f.marking_key, f.refresh_hash, f.previous_hash, f.successor_sealed, f.generation, f.rotated_at,
  f.ended_at IS NULL AND u.is_active
FROM authserver_tokenfamily f JOIN auth_user u ON u.id = f.user_id
WHERE f.id = %s
"""
_SERVICE_ACCOUNT: Final = """
SELECT CAST(s.resources AS text), s.user_id IS NULL OR u.is_active
FROM authserver_serviceaccount s LEFT JOIN auth_user u ON u.id = s.user_id
WHERE s.client_id = %s
"""
_IS_BEHIND_GATEWAY: Final = """
SELECT 1 FROM connections_mcpserver WHERE slug = %s AND gateway_enabled AND status <> 'inactive'
"""
_EXTERNAL_SCOPES: Final = """
SELECT CAST(scopes AS text) FROM authserver_protectedresource WHERE resource = %s AND is_active
"""
_CODE: Final = """
SELECT code_hash, redirect_uri, code_challenge, expires_at, used_at IS NOT NULL
FROM authserver_authorizationcode WHERE family_id = %s
"""
_USE_CODE: Final = "UPDATE authserver_authorizationcode SET used_at = %s WHERE family_id = %s AND used_at IS NULL"
_FIRST_REFRESH_TOKEN: Final = """
UPDATE authserver_tokenfamily SET refresh_hash = %s, generation = 1, rotated_at = %s WHERE id = %s AND ended_at IS NULL
"""
_ROTATE: Final = """
UPDATE authserver_tokenfamily
SET previous_hash = refresh_hash, refresh_hash = %s, successor_sealed = %s, generation = generation + 1, rotated_at = %s
WHERE id = %s AND refresh_hash = %s AND ended_at IS NULL
"""
_CLAIM_ASSERTION: Final = """
INSERT INTO authserver_usedassertion (id_hash, expires_at) VALUES (%s, %s) ON CONFLICT DO NOTHING
"""


class StoredClient(NamedTuple):
    """A client that is neither blocked nor ended nor expired."""

    id: UUID
    client_id: str
    kind: str
    auth_method: str
    secret_hash: str
    jwks: str | None
    grant_types: str
    scope: str
    is_use_old: bool


class StoredFamily(NamedTuple):
    """A family of tokens; `is_standing`: not ended, and its person is active."""

    id: UUID
    client_id: UUID
    consent_id: UUID
    user_id: int
    subject: str
    resource: str
    scope: str
    is_refreshable: bool
    expires_at: datetime
    marking_key: str
    refresh_hash: str
    previous_hash: str
    successor_sealed: str
    generation: int
    rotated_at: datetime | None
    is_standing: bool


class StoredCode(NamedTuple):
    """An authorization code."""

    code_hash: str
    redirect_uri: str
    code_challenge: str
    expires_at: datetime
    is_used: bool


def find_client(client_id: str, *, now: datetime, stale: datetime) -> StoredClient | None:
    """Return the client of that name if it may ask at all; a use before `stale` counts as old."""
    row = _one(_CLIENT, stale, client_id, now)
    return StoredClient._make((as_uuid(row[0]), *row[1:8], bool(row[8]))) if row else None


def find_family(family_id: UUID) -> StoredFamily | None:
    """Return a family as it is at this moment, in this transaction."""
    row = _one(_FAMILY, family_id)
    if row is None:
        return None
    found = StoredFamily._make(row)
    return found._replace(
        id=as_uuid(found.id),
        client_id=as_uuid(found.client_id),
        consent_id=as_uuid(found.consent_id),
        expires_at=as_moment(found.expires_at),
        rotated_at=None if found.rotated_at is None else as_moment(found.rotated_at),
        is_refreshable=bool(found.is_refreshable),
        is_standing=bool(found.is_standing),
    )


def find_service_resources(client_id: UUID) -> list[str] | None:
    """Return the resources that a client may ask for by itself; None for one that may not, or not any more."""
    row = _one(_SERVICE_ACCOUNT, client_id)
    return list(json.loads(row[0])) if row and row[1] else None


def is_behind_gateway(slug: str) -> bool:
    """Whether the gateway serves a server of that name."""
    return _one(_IS_BEHIND_GATEWAY, slug) is not None


def find_external_scopes(uri: str) -> Mapping[str, str] | None:
    """Return the scopes of somebody else's resource, with their words; None if none has exactly that name."""
    row = _one(_EXTERNAL_SCOPES, uri)
    return dict(json.loads(row[0])) if row else None


def find_code(family_id: UUID) -> StoredCode | None:
    """Return the code that a family begins with."""
    row = _one(_CODE, family_id)
    return StoredCode._make((*row[:3], as_moment(row[3]), bool(row[4]))) if row else None


def use_code(family_id: UUID, *, now: datetime) -> bool:
    """Claim a code; of many who try, one is told True."""
    return _change(_USE_CODE, now, family_id)


def keep_first_refresh_token(family_id: UUID, *, token_hash: str, now: datetime) -> bool:
    """Give a family its first refresh token; False if it has ended."""
    return _change(_FIRST_REFRESH_TOKEN, token_hash, now, family_id)


def rotate(family_id: UUID, *, old_hash: str, new_hash: str, sealed: str, now: datetime) -> bool:
    """Put a new refresh token in the place of the newest; of many who try, one is told True."""
    return _change(_ROTATE, new_hash, sealed, now, family_id, old_hash)


def claim_assertion(id_hash: str, *, expires_at: datetime) -> bool:
    """Claim the id of a client assertion; False if it was used before."""
    return _change(_CLAIM_ASSERTION, id_hash, expires_at)


def _one(sql: str, *parameters: object) -> Any:
    with connection.wrap_database_errors:
        return _execute(sql, parameters).fetchone()


def _change(sql: str, *parameters: object) -> bool:
    with connection.wrap_database_errors:
        return bool(_execute(sql, parameters).rowcount == 1)


def _execute(sql: str, parameters: tuple[object, ...]) -> Any:
    connection.ensure_connection()
    raw: Any = connection.connection
    if connection.vendor == "postgresql":
        return psycopg.Cursor(raw).execute(sql, parameters)
    return raw.execute(_in_sqlite(sql), [*map(as_in_sqlite, parameters)])


@lru_cache(maxsize=32)
def _in_sqlite(sql: str) -> str:
    return sql.replace("%s", "?")
