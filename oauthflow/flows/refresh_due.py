"""Renew in the background what is due, so that nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog
from django.db import transaction
from django.db.models import F, QuerySet

from connections.lock_order import lock_by_key
from connections.models import Connection, TokenSet
from connections.services import KEEP_ALIVE
from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.grant_types import GrantType

from .refresh.batch import refresh_many
from .refresh.failure import quarantine
from .refresh.health import is_in_trouble
from .refresh.recovery import recover_abandoned
from .refresh.replay import replay_spool
from .refresh.single import refresh_connection

MOST_AT_A_TIME: Final = 20_000
MOST_IN_TURN: Final = 200
_MOST_PLANNED: Final = 1000
_log: Final = structlog.get_logger(__name__)


def refresh_due(*, now: datetime, go_on: Callable[[], bool] = lambda: True) -> dict[str, int]:
    """Refresh the connections that are due, the most urgent first; return counts by outcome.

    Args:
        now: Aware UTC.
        go_on: Asked before anything new is claimed; what is under way is awaited, for as long as a refresh may take.
    """
    replay_spool()
    _plan_unplanned()
    recovered = recover_abandoned(now=now, go_on=go_on)
    # However many wait for an issuer in trouble, they take nobody else's place in the run. What has no end waits best.
    by_end = F("tokens__expires_at").asc(nulls_last=True)
    due = Connection.objects.due_for_refresh(now=now).order_by(is_in_trouble(), by_end)
    vouched_for = due.filter(tokens__grant_type=GrantType.TOKEN_EXCHANGE)
    rows = due.exclude(tokens__grant_type=GrantType.TOKEN_EXCHANGE).values_list("tokens__pk", "tokens__issuer")
    done = refresh_many(rows[:MOST_AT_A_TIME], now=now, go_on=go_on)
    # Two services have to be asked for each of these.
    others = refresh_in_turn(vouched_for[:MOST_IN_TURN], now=now, go_on=go_on)
    return {
        "refreshed": recovered.refreshed + done.refreshed + others["refreshed"],
        "failed": recovered.failed + done.failed + others["failed"],
    }


def refresh_due_in_turn(*, now: datetime) -> dict[str, int]:
    """Do the same one after the other, for comparison and as a way out."""
    return refresh_in_turn(Connection.objects.due_for_refresh(now=now).order_by("tokens__expires_at"), now=now)


def refresh_in_turn(
    due: QuerySet[Connection], *, now: datetime, go_on: Callable[[], bool] = lambda: True
) -> dict[str, int]:
    """Refresh these one after the other; return counts by outcome. One that we fail at is put aside. F24."""
    outcome = {"refreshed": 0, "failed": 0}
    for connection in due:
        if not go_on():
            break
        if not Connection.objects.due_for_refresh(now=now).filter(pk=connection.pk).exists():
            continue  # since the list was read another run renewed it or put it off, or its owner was deactivated
        try:
            refresh_connection(connection, now=now, trigger="schedule")
            outcome["refreshed"] += 1
        except FlowError:  # recorded where it happened; the next connection is another matter
            outcome["failed"] += 1
        except Exception:
            outcome["failed"] += 1
            _log.exception("refresh.row_failed", connection=str(connection.pk))
            if token_set := connection.token_set:
                quarantine(token_set, now=now)
    return outcome


def _plan_unplanned() -> None:
    """The release before left out when to renew what was given without a lifetime; so it does beside this one."""
    unplanned = TokenSet.objects.filter(refresh_due_at__isnull=True).exclude(refresh_token_sealed="")
    if found := list(unplanned.values_list("pk", flat=True)[:_MOST_PLANNED]):
        with transaction.atomic():
            lock_by_key(unplanned.filter(pk__in=found))
            unplanned.filter(pk__in=found).update(refresh_due_at=F("obtained_at") + KEEP_ALIVE)
