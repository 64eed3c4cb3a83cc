"""Renew in the background what is due, so that nobody waits for it."""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from connections.models import Connection
from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.grant_types import GrantType

from .refresh.batch import refresh_many
from .refresh.recovery import recover_abandoned, replay_spool
from .refresh.single import refresh_connection

MOST_AT_A_TIME = 20_000
MOST_IN_TURN = 200


def refresh_due(*, now: datetime) -> dict[str, int]:
    """Refresh the connections that are due, the most urgent first; return counts by outcome."""
    replay_spool()
    recovered = recover_abandoned(now=now)
    due = Connection.objects.due_for_refresh(now=now).order_by("tokens__expires_at")
    vouched_for = due.filter(tokens__grant_type=GrantType.TOKEN_EXCHANGE)
    rows = due.exclude(tokens__grant_type=GrantType.TOKEN_EXCHANGE).values_list("tokens__pk", "tokens__issuer")
    done = refresh_many(rows[:MOST_AT_A_TIME], now=now)
    # Two services have to be asked for each of these.
    others = refresh_in_turn(vouched_for[:MOST_IN_TURN], now=now)
    return {
        "refreshed": recovered.refreshed + done.refreshed + others["refreshed"],
        "failed": recovered.failed + done.failed + others["failed"],
    }


def refresh_due_in_turn(*, now: datetime) -> dict[str, int]:
    """Do the same one after the other, for comparison and as a way out."""
    return refresh_in_turn(Connection.objects.due_for_refresh(now=now).order_by("tokens__expires_at"), now=now)


def refresh_in_turn(due: QuerySet[Connection], *, now: datetime) -> dict[str, int]:
    """Refresh these one after the other; return counts by outcome."""
    outcome = {"refreshed": 0, "failed": 0}
    for connection in due:
        try:
            refresh_connection(connection, now=now, trigger="schedule")
        except FlowError:  # recorded where it happened; the next connection is another matter
            outcome["failed"] += 1
        else:
            outcome["refreshed"] += 1
    return outcome
