"""Turns what happens into metrics: the audit records of every state change, and every request to another server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction

from audit.events import AuditEvent
from audit.listeners import APPENDED
from authserver.signals import TOKEN_ANSWERED
from gateway.signals import CALLS_NOTED
from oauthflow.egress.signals import REQUEST_DONE
from oauthflow.protocol.codes import Code

from . import metrics

if TYPE_CHECKING:
    import prometheus_client

    from audit.append import Entry

_AUTHORIZATIONS: Final = {
    AuditEvent.AUTHORIZATION_INITIATED.value: "initiated",
    AuditEvent.AUTHORIZATION_COMPLETED.value: "completed",
    AuditEvent.AUTHORIZATION_FAILED.value: "failed",
    AuditEvent.CALLBACK_REJECTED.value: "rejected",
}
_CODES: Final = frozenset(code.value for code in Code)
_CLIENT_REFUSED: Final = frozenset({Code.INVALID_CLIENT.value, Code.UNAUTHORIZED_CLIENT.value})


def connect_receivers() -> None:
    """Begin to count; doing it again changes nothing."""
    APPENDED.connect(count_appended, dispatch_uid="metrics")
    REQUEST_DONE.connect(count_egress, dispatch_uid="metrics")
    CALLS_NOTED.connect(metrics.count_gateway_calls, dispatch_uid="metrics")
    TOKEN_ANSWERED.connect(metrics.count_token_answer, dispatch_uid="metrics")


def count_appended(sender: object, entries: Sequence[Entry], **kwargs: Any) -> None:
    """Count what was recorded, once it is committed; a fault in here must not end a transaction."""
    transaction.on_commit(partial(_count, entries), robust=True)


def _count(entries: Sequence[Entry]) -> None:
    for event, count in Counter(entry.event for entry in entries).items():
        metrics.EVENTS.labels(event).inc(count)
        if event == AuditEvent.TOKEN_RELEASED:
            metrics.TOKEN_RELEASES.inc(count)
    refreshes = Counter((_refresh_outcome(entry), str(entry.details.get("issuer", ""))) for entry in entries)
    for (outcome, issuer), count in refreshes.items():
        if outcome:
            metrics.REFRESHES.labels(outcome, metrics.issuer_label(issuer)).inc(count)
    for entry in entries:
        if step := _AUTHORIZATIONS.get(entry.event):
            metrics.AUTHORIZATIONS.labels(step, _code(entry.reason)).inc()
        seconds_left = entry.details.get("seconds_left")
        if isinstance(seconds_left, int | float):
            metrics.REFRESH_SECONDS_LEFT.observe(seconds_left)


def count_egress(sender: object, step: str, outcome: str, seconds: float, **kwargs: Any) -> None:
    """Count a request to another server."""
    requests, duration = _egress(step or "other", outcome)
    requests.inc()
    duration.observe(seconds)


@cache
def _egress(step: str, outcome: str) -> tuple[prometheus_client.Counter, prometheus_client.Histogram]:
    """Both are names of ours, so there are few; looking a label up costs more than counting."""
    return metrics.EGRESS_REQUESTS.labels(step, outcome), metrics.EGRESS_SECONDS.labels(step)


def _refresh_outcome(entry: Entry) -> str:
    """Empty for what was no attempt to refresh: alerts bear the same event, but are about no one connection."""
    if not entry.connection:
        return ""
    if entry.event == AuditEvent.TOKEN_REFRESHED:
        return "refreshed"
    if entry.event == AuditEvent.REAUTHORIZATION_REQUIRED:
        return "reauthorization_required"
    if entry.event == AuditEvent.TOKEN_REFRESH_FAILED:
        return "client_refused" if entry.reason in _CLIENT_REFUSED else "transient"
    return ""


def _code(reason: str) -> str:
    """A reason may be a sentence; only codes become labels."""
    return reason if reason in _CODES else "other" if reason else ""
