"""What the identity of a caller asks the database, in SQL. The tests hold it against the models."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from oauthflow.hot_path.access import OPEN_TO_USER
from oauthflow.hot_path.questions import Question


class StoredApiToken(NamedTuple):
    """An API token that is not revoked, of somebody who is active; with the driver's types.

    Whether it has expired whoever asks sees for themselves: who asks for the same as of another moment may get the same
    answer.
    """

    id: Any
    user_id: int
    name: str
    scopes: str
    expires_at: Any
    is_use_old: bool


API_TOKEN: Final = Question(
    "t.id, t.user_id, t.name, CAST(t.scopes AS text), t.expires_at, "
    "t.last_used_at IS NULL OR t.last_used_at <= w.stale",
    "connections_apitoken t JOIN auth_user u ON u.id = t.user_id",
    "t.token_hash = w.token_hash AND u.is_active AND t.revoked_at IS NULL",
    asked={"token_hash": "text", "stale": "timestamptz"},
    read=StoredApiToken._make,
)
"""`stale`: the moment before which a noted use is old."""

RIGHT: Final = Question(
    "1",
    "connections_mcpserver s JOIN auth_user u ON u.id = w.user_id",
    f"s.id = w.server_id AND s.gateway_enabled AND s.status <> 'inactive' AND u.is_active AND {OPEN_TO_USER}",
    asked={"server_id": "uuid", "user_id": "bigint"},
    read=lambda row: True,
)
"""Whether somebody may use a server behind the gateway at this moment."""
