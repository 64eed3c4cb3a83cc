"""Renew in the background what is due, so that nobody waits for it."""

from __future__ import annotations

from datetime import datetime

from connections.models import Connection
from oauthflow.protocol.errors import FlowError

from .refresh import refresh_connection

BATCH = 200


def refresh_due(*, now: datetime) -> dict[str, int]:
    """Refresh the connections that are due, the most urgent first; return counts by outcome."""
    outcome = {"refreshed": 0, "failed": 0}
    due = Connection.objects.due_for_refresh(now=now).order_by("tokens__expires_at")[:BATCH]
    for connection in due:
        try:
            refresh_connection(connection, now=now, trigger="schedule")
        except FlowError:  # recorded where it happened; the next connection is another matter
            outcome["failed"] += 1
        else:
            outcome["refreshed"] += 1
    return outcome
