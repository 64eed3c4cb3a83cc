"""Numbers that are read from the database when somebody asks for metrics, at most every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Final

import structlog
from django.db import DatabaseError
from django.db.models import Count, Min, Model
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from connections.models import NOT_RENEWABLE, Connection, Revocation, TokenSet
from oauthflow.models import Notice, WebhookDelivery

from .heartbeat import beat_age_seconds

_KEPT_SECONDS: Final = 10.0
_OUTBOXES: Final[dict[str, type[Model]]] = {
    "revocations": Revocation, "webhooks": WebhookDelivery, "mail": Notice,
}  # fmt: skip
_log = structlog.get_logger(__name__)


class StateCollector(Collector):
    """Reads once for all who ask within ten seconds; where the database does not answer, only says so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families: list[GaugeMetricFamily] = []
        self._read_at = float("-inf")

    def collect(self) -> Iterable[GaugeMetricFamily]:
        with self._lock:
            if time.monotonic() - self._read_at >= _KEPT_SECONDS:
                self._families = _read()
                self._read_at = time.monotonic()
            return list(self._families)


def _read() -> list[GaugeMetricFamily]:
    try:
        families = [_connections(), *_queue(), *_outboxes(), *_beat()]
        readable = 1.0
    except DatabaseError:
        _log.warning("the state for metrics cannot be read")
        families, readable = [], 0.0
    return [*families, _gauge("mcp_oauth_state_readable", "Whether the database answered the last time.", readable)]


def _connections() -> GaugeMetricFamily:
    family = GaugeMetricFamily("mcp_oauth_connections", "Connections by status.", labels=["status"])
    rows = Connection.objects.order_by().values_list("status").annotate(count=Count("pk"))
    counts = dict.fromkeys(Connection.Status.values, 0) | dict(rows)
    for status, count in counts.items():
        family.add_metric([status], count)
    return family


def _queue() -> Iterable[GaugeMetricFamily]:
    now = timezone.now()
    due = Connection.objects.due_for_refresh(now=now).order_by()
    row = due.aggregate(count=Count("pk"), oldest=Min("tokens__refresh_due_at"))
    living = TokenSet.objects.filter(connection__status__in=Connection.WORKING).exclude(NOT_RENEWABLE)
    ends = living.aggregate(soonest=Min("expires_at"))
    age = (now - row["oldest"]).total_seconds() if row["oldest"] else 0.0
    yield _gauge("mcp_oauth_refreshes_due", "Connections whose refresh is due.", row["count"])
    yield _gauge("mcp_oauth_refresh_queue_age_seconds", "How long the oldest of them has been due.", age)
    if ends["soonest"] is not None:
        left = (ends["soonest"] - now).total_seconds()
        yield _gauge("mcp_oauth_soonest_expiry_seconds", "Until the next token ends that we can renew.", left)


def _outboxes() -> Iterable[GaugeMetricFamily]:
    """What other services and people still have to be told, and how late that is."""
    now = timezone.now()
    waiting = GaugeMetricFamily("mcp_oauth_outbox_waiting", "Messages that wait to be sent.", labels=["outbox"])
    late = GaugeMetricFamily(
        "mcp_oauth_outbox_late_seconds", "How long the next attempt of one has been due.", labels=["outbox"]
    )
    for name, model in _OUTBOXES.items():
        rows = model._default_manager.filter(next_attempt_at__isnull=False).order_by()
        row = rows.aggregate(count=Count("pk"), oldest=Min("next_attempt_at"))
        waiting.add_metric([name], row["count"])
        late.add_metric([name], max(0.0, (now - row["oldest"]).total_seconds()) if row["oldest"] else 0.0)
    return waiting, late


def _beat() -> Iterable[GaugeMetricFamily]:
    if (age := beat_age_seconds()) is not None:
        yield _gauge("mcp_oauth_beat_age_seconds", "Since the last tick of beat that a worker took.", age)


def _gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, value=value)
