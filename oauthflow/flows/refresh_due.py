"""Renew in the background what is due, so that nobody waits for it."""

from __future__ import annotations

from datetime import datetime

from connections.models import Connection
from oauthflow.protocol.errors import FlowError

from .refresh.batch import refresh_many
from .refresh.recovery import recover_abandoned, replay_spool
from .refresh.single import refresh_connection

MOST_AT_A_TIME = 20_000


def refresh_due(*, now: datetime) -> dict[str, int]:
    """Refresh the connections that are due, the most urgent first; return counts by outcome."""
    replay_spool()
    recovered = recover_abandoned(now=now)
    due = Connection.objects.due_for_refresh(now=now).order_by("tokens__expires_at")
    rows = due.values_list("tokens__pk", "tokens__issuer")[:MOST_AT_A_TIME]
    done = refresh_many(rows, now=now)
    return {"refreshed": recovered.refreshed + done.refreshed, "failed": recovered.failed + done.failed}


def refresh_due_in_turn(*, now: datetime) -> dict[str, int]:
    """Do the same one after the other, for comparison and as a way out."""
    outcome = {"refreshed": 0, "failed": 0}
    for connection in Connection.objects.due_for_refresh(now=now).order_by("tokens__expires_at"):
        try:
            refresh_connection(connection, now=now, trigger="schedule")
        except FlowError:  # recorded where it happened; the next connection is another matter
            outcome["failed"] += 1
        else:
            outcome["refreshed"] += 1
    return outcome
