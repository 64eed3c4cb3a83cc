"""Leases for many rows in one statement: who refreshes which generation, on the database's clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from django.db import connection

from .models import TokenSet
from .renewals import database_clock, recordset, recordset_parameter

_COLUMNS: Final = {
    "token_set": "uuid", "generation": "bigint", "refresh_failures": "integer", "lease_owner": "text",
    "new_owner": "text", "dead_owner": "text",
}  # fmt: skip
_CLAIM: Final = " ".join(
    (
        "UPDATE connections_tokenset AS t SET lease_owner = r.new_owner, lease_expires_at = {until}",
        "FROM {recordset} WHERE t.id = r.token_set AND t.generation = r.generation",
        "AND t.refresh_failures = r.refresh_failures AND t.lease_owner = r.lease_owner",
        "AND (t.lease_expires_at IS NULL OR t.lease_expires_at <= {now} OR t.lease_owner = r.dead_owner)",
        "{unlocked} RETURNING id",
    )
)
# A row that somebody is writing right now is not waited for: somebody has it.
_UNLOCKED: Final = (
    "AND t.id IN (SELECT s.id FROM connections_tokenset s WHERE s.id = ANY(%s::uuid[]) FOR UPDATE SKIP LOCKED)"
)


class Claim(NamedTuple):
    """Who wants which row, as it was read. `dead_owner`: `-`, or an owner whose lease need not be waited for."""

    token_set: TokenSet
    new_owner: str
    dead_owner: str = "-"


def claim_many(claims: Sequence[Claim], *, seconds: int) -> set[UUID]:
    """Take the leases that are free in one statement; return the ids of the rows that were."""
    on_postgresql = connection.vendor == "postgresql"
    statement = _CLAIM.format(
        until=database_clock(seconds=seconds),
        now=database_clock(),
        recordset=recordset(_COLUMNS),
        unlocked=_UNLOCKED if on_postgresql else "",
    )
    ids = [claim.token_set.pk for claim in claims]
    parameter = recordset_parameter([_row(claim) for claim in claims])
    with connection.cursor() as cursor:
        cursor.execute(statement, [parameter, ids] if on_postgresql else [parameter])
        return {UUID(str(found)) for (found,) in cursor.fetchall()}


def give_back_many(ids: Sequence[UUID], *, lease_owner: str) -> None:
    """Let go of leases under which nothing was sent."""
    TokenSet.objects.filter(pk__in=ids, lease_owner=lease_owner).update(lease_owner="", lease_expires_at=None)


def _row(claim: Claim) -> dict[str, object]:
    token_set = claim.token_set
    return {
        "token_set": token_set.pk,
        "generation": token_set.generation,
        "refresh_failures": token_set.refresh_failures,
        "lease_owner": token_set.lease_owner,
        "new_owner": claim.new_owner,
        "dead_owner": claim.dead_owner,
    }
