"""Let go of clients that nobody uses, and of questions that nobody answered."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db.models import Exists, OuterRef, Q, QuerySet

from ..conf import authserver_configuration
from ..models import Consent, McpClient, PendingAuthorization, TokenFamily
from ..rate_limit import forget_counts
from .end_grants import end_client

_BATCH: Final = 500
# Longer than any access token lives: revocations of what an ended client still held refer to it.
_ENDED_KEPT: Final = timedelta(days=1)
_QUESTIONS_KEPT: Final = timedelta(hours=1)


def forget_unused(*, now: datetime) -> int:
    """Delete what is over; return how many clients went or ended.

    A client that registered itself goes 24 hours after it did if nobody allowed it anything by then, and ends when it
    was not used for 90 days, each use counting anew. Those that an administrator entered or verified stay.

    Spec: RFC 7591 §5; security notes AS02. X-10.
    """
    forget_counts(now=now)
    PendingAuthorization.objects.filter(expires_at__lte=now - _QUESTIONS_KEPT).delete()
    gone = _never_used(now=now).delete()[1].get("authserver.McpClient", 0)
    idle = list(_idle(now=now)[:_BATCH])
    for client in idle:
        end_client(client, reason="client_idle", actor=None, now=now)
    McpClient.objects.filter(ended_at__lte=now - _ENDED_KEPT).exclude(kind=McpClient.Kind.PRE_REGISTERED).delete()
    return gone + len(idle)


def _self_made() -> QuerySet[McpClient]:
    return McpClient.objects.exclude(kind=McpClient.Kind.PRE_REGISTERED).filter(
        verified=False, blocked_at__isnull=True, ended_at__isnull=True
    )


def _never_used(*, now: datetime) -> QuerySet[McpClient]:
    before = now - timedelta(hours=authserver_configuration().unused_client_hours)
    return _self_made().filter(
        ~Exists(Consent.objects.filter(client=OuterRef("pk"))), last_used_at__isnull=True, created_at__lte=before
    )


def _idle(*, now: datetime) -> QuerySet[McpClient]:
    before = now - timedelta(days=authserver_configuration().idle_client_days)
    lively = TokenFamily.objects.filter(Q(rotated_at__gt=before) | Q(issued_at__gt=before), client=OuterRef("pk"))
    return _self_made().filter(~Exists(lively), last_used_at__lte=before).order_by("last_used_at")
