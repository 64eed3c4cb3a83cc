"""What one call through the gateway asks the database, in SQL. The tests hold it against the models.

The second question is asked on every call: a server switched off, a person deactivated or no longer allowed, a
connection given up or renewed is noticed by the very next one.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from uuid import UUID

from oauthflow.hot_path.access import OPEN_TO_USER
from oauthflow.hot_path.questions import Question, Row, as_uuid


class StoredServer(NamedTuple):
    """Columns of a server that the gateway serves, as the database gives them."""

    id: Any
    slug: str
    name: str
    url: str
    auth_type: str
    transport: str
    status: str
    connection_policy: str
    grant_type: str
    request_timeout_seconds: int
    header_name: str
    static_credential_sealed: str
    trust_version: str


class StoredGrant(NamedTuple):
    """What may be used upstream, as the database gives it; all that the opened token depends on.

    The issuer and the resource that the server has now are there to be held against those of the token. T-02.
    """

    id: Any
    connection_id: Any
    generation: int
    access_token_sealed: str
    token_type: str
    issuer: str
    resource: str
    obtained_at: Any
    expires_at: Any
    dpop_key_sealed: str
    approved_issuer: str
    server_url: str
    accepted_resource: str


class StoredTarget(NamedTuple):
    """One row of the answer.

    `connection_id` is None where the person has none; `grant` where nothing is stored; its name is of `grant_of`.
    `may_renew` says that new tokens can be had without a person, and are not paused after a failure.
    """

    server: StoredServer
    connection_id: UUID | None
    connection_status: str
    upstream_subject: str
    is_use_old: bool
    may_renew: bool
    grant: StoredGrant | None
    grant_name: str


_SERVER: Final = """
  s.id, s.slug, s.name, s.url, s.auth_type, s.transport, s.status, s.connection_policy, s.grant_type,
  s.request_timeout_seconds, s.header_name, s.static_credential_sealed,
  COALESCE((SELECT CAST(i.version AS text) FROM gateway_inboundtrust i WHERE i.server_id = s.id), '')
"""
_GRANT: Final = """
  k.id, k.connection_id, k.generation, k.access_token_sealed, k.token_type, k.issuer, k.resource,
  k.obtained_at, k.expires_at, c.dpop_key_sealed, COALESCE(d.issuer, ''), s.url,
  CASE WHEN s.resource_mode = 'custom' THEN s.resource ELSE '' END
"""
_TARGET: Final = """,
  c.id, c.status, c.upstream_subject, c.last_used_at IS NULL OR c.last_used_at <= w.stale,
  (k.refresh_token_sealed <> '' OR k.grant_type <> 'authorization_code')
  AND (k.next_attempt_at IS NULL OR k.next_attempt_at <= w.now),
"""
# Of several, the one that `connections.services.default_connection` names. Two parts, because each has an index of its
# own, and an OR of them has none; `label` is never null, and names SQLite the index of the shared ones.
_TABLES: Final = """
  connections_mcpserver s
JOIN auth_user u ON u.id = w.user_id
LEFT JOIN connections_serverdiscovery d ON d.server_id = s.id
LEFT JOIN connections_connection c ON c.id = (
  SELECT o.id FROM (
    SELECT p.id, p.status, p.user_id, p.label, p.connected_at, p.created_at FROM connections_connection p
    WHERE p.server_id = s.id AND p.user_id = u.id AND s.connection_policy <> 'shared'
    UNION ALL
    SELECT p.id, p.status, p.user_id, p.label, p.connected_at, p.created_at FROM connections_connection p
    WHERE p.server_id = s.id AND p.user_id IS NULL AND p.label >= '' AND s.connection_policy <> 'personal'
  ) o
  WHERE w.label = '' OR o.label = w.label
  ORDER BY
    CASE WHEN o.status IN ('pending', 'revoked') THEN 1 ELSE 0 END,
    CASE WHEN o.user_id IS NULL THEN 1 ELSE 0 END,
    COALESCE(o.connected_at, o.created_at) DESC, o.id
  LIMIT 1
)
LEFT JOIN connections_tokenset k ON k.connection_id = c.id
"""
_IS_SERVED: Final = "s.gateway_enabled AND s.transport <> 'stdio'"

_OF_SERVER: Final = len(StoredServer._fields)
_OF_TARGET: Final = _OF_SERVER + len(StoredTarget._fields) - 3


def grant_of(token_set_id: UUID, *, issuer: str, subject: str) -> str:
    """Name a grant and the account that gave it, as far as that is known. OpenID Connect Core §5.7."""
    return "\n".join((token_set_id.hex, issuer, subject))


def _target_of(row: Row) -> StoredTarget:
    connection_id, status, subject, is_use_old, may_renew = row[_OF_SERVER:_OF_TARGET]
    grant = StoredGrant._make(row[_OF_TARGET:]) if row[_OF_TARGET] is not None else None
    return StoredTarget(
        StoredServer._make(row[:_OF_SERVER]),
        as_uuid(connection_id) if connection_id is not None else None,
        status,
        subject,
        is_use_old,
        may_renew,
        grant,
        grant_of(as_uuid(grant.id), issuer=grant.issuer, subject=subject) if grant is not None else "",
    )


SERVER: Final = Question(
    _SERVER,
    "connections_mcpserver s",
    f"s.slug = w.slug AND {_IS_SERVED}",
    asked={"slug": "text"},
    read=StoredServer._make,
)
TARGET: Final = Question(
    _SERVER + _TARGET + _GRANT,
    _TABLES,
    f"s.id = w.server_id AND {_IS_SERVED} AND u.is_active AND {OPEN_TO_USER}",
    asked={"server_id": "uuid", "user_id": "bigint", "label": "text", "now": "timestamptz", "stale": "timestamptz"},
    read=_target_of,
)
"""`label`: of the connection; empty: whichever is theirs. `stale`: the moment before which a noted use is old."""
