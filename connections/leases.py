"""Leases: who refreshes which generation of which rows, on the database's clock, and how many at one issuer. R1, R6."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID
from zlib import crc32

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models.functions import Now

from .models import TokenSet
from .recordset import as_json, recordset, returned
from .renewals import database_clock

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


# Claims of the same issuer take turns, so that each sees the leases of the one before. Issuers share 64 locks.
_LOCK_FAMILY: Final = 0x6C656173
_LOCKS: Final = 64
_LOCK: Final = (
    "SELECT set_config('idle_in_transaction_session_timeout', '10s', true), pg_advisory_xact_lock(%s, k)"
    " FROM unnest(%s::int[]) AS k"
)
_UNDER_WAY: Final = " ".join(
    (
        "SELECT issuer, count(*) FROM connections_tokenset",
        "WHERE lease_expires_at > {now} AND issuer {listed} AND NOT lease_owner {listed}",
        "GROUP BY issuer",
    )
)

IN_FLIGHT_PER_ISSUER: Final = 20
"""How many requests may be under way at one issuer, from all processes together. R6."""


class Claim(NamedTuple):
    """Who wants which row, as it was read.

    `dead_owner`: `-`, or an owner whose lease need not be waited for. `most`: how many leases of this issuer there may
    be then, this one included.
    """

    token_set: TokenSet
    new_owner: str
    dead_owner: str = "-"
    most: int = IN_FLIGHT_PER_ISSUER


class Claimed(NamedTuple):
    """Ids of rows: whose leases were taken, and for which their issuers had no room."""

    taken: set[UUID]
    crowded: set[UUID]


def claim_many(claims: Sequence[Claim], *, seconds: int) -> Claimed:
    """Take the leases that are free, as far as their issuers have room."""
    with transaction.atomic(), connection.cursor() as cursor:
        fitting = _fitting(cursor, claims)
        taken = _take(cursor, fitting, seconds=seconds) if fitting else set()
    return Claimed(taken, {claim.token_set.id for claim in claims} - {claim.token_set.id for claim in fitting})


def lease_for_refresh(
    token_set: TokenSet, *, owner: str, seconds: int, dead_owner: str = "-", most: int = IN_FLIGHT_PER_ISSUER
) -> bool:
    """Take the right to refresh this generation for a while by one conditional UPDATE; say whether it was free.

    The clock is the database's. Who read the row before the last attempt does not get it: that attempt's outcome is
    the answer, good or bad.

    Args:
        token_set: The row as it was read, with the owner that it had then.
        owner: Names this attempt.
        seconds: How long the lease lasts.
        dead_owner: An owner that is known to be gone, whose lease need not be waited for.
        most: As in `Claim`.

    Spec: R1, R4, R6 of the refresh protocol in docs/reliability.md.
    """
    return bool(claim_many([Claim(token_set, owner, dead_owner, most)], seconds=seconds).taken)


def give_lease_back(token_set: TokenSet, *, lease_owner: str) -> None:
    """Let go of a lease under which nothing was sent."""
    TokenSet.objects.filter(pk=token_set.pk, lease_owner=lease_owner).update(lease_owner="", lease_expires_at=None)


def end_lease(token_set: TokenSet, *, lease_owner: str) -> None:
    """Leave a row as an owner does that dies: whoever comes next takes over, not knowing what became of the token."""
    TokenSet.objects.filter(pk=token_set.pk, lease_owner=lease_owner).update(lease_expires_at=Now())


def _fitting(cursor: CursorWrapper, claims: Sequence[Claim]) -> list[Claim]:
    """Return the claims for which there is room; until the transaction ends nobody else takes it."""
    issuers = sorted({claim.token_set.issuer for claim in claims})
    dead = sorted({claim.dead_owner for claim in claims})
    on_postgresql = connection.vendor == "postgresql"
    listed = "= ANY(%s)" if on_postgresql else "IN (SELECT value FROM json_each(%s))"
    statement = _UNDER_WAY.format(now=database_clock(), listed=listed)
    if on_postgresql:
        cursor.execute(_LOCK, [_LOCK_FAMILY, sorted({crc32(issuer.encode()) % _LOCKS for issuer in issuers})])
        cursor.execute(statement, [issuers, dead])
    else:
        cursor.execute(statement, [json.dumps(issuers), json.dumps(dead)])
    under_way = Counter(dict(cursor.fetchall()))
    fitting = []
    for claim in claims:
        if under_way[claim.token_set.issuer] < claim.most:
            under_way[claim.token_set.issuer] += 1
            fitting.append(claim)
    return fitting


def _take(cursor: CursorWrapper, claims: Sequence[Claim], *, seconds: int) -> set[UUID]:
    on_postgresql = connection.vendor == "postgresql"
    statement = _CLAIM.format(
        until=database_clock(seconds=seconds),
        now=database_clock(),
        recordset=recordset(_COLUMNS),
        unlocked=_UNLOCKED if on_postgresql else "",
    )
    ids = [claim.token_set.id for claim in claims]
    parameter = as_json([_row(claim) for claim in claims])
    cursor.execute(statement, [parameter, ids] if on_postgresql else [parameter])
    return returned(cursor, ids)


def _row(claim: Claim) -> dict[str, object]:
    token_set = claim.token_set
    return {
        "token_set": token_set.id,
        "generation": token_set.generation,
        "refresh_failures": token_set.refresh_failures,
        "lease_owner": token_set.lease_owner,
        "new_owner": claim.new_owner,
        "dead_owner": claim.dead_owner,
    }
