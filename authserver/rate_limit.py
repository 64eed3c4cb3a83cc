"""Limits of how often somebody may ask, the same for all processes. Exact: one statement counts and decides."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from django.db.models import F

from .models import RequestCount
from .protocol.errors import TooManyRequestsError


def take(what: str, *, who: str = "", limit: int, seconds: int, now: datetime) -> None:
    """Count one request, or refuse it.

    Args:
        what: The kind of request.
        who: Address or host it is counted for; empty: for all together.
        limit: How many are let through in each stretch.
        seconds: Length of the stretches; they begin at multiples of it.
        now: Aware UTC.

    Raises:
        TooManyRequestsError: There were that many already.

    Spec: RFC 6585 §4; security notes Z12.
    """
    start = int(now.timestamp()) // seconds * seconds
    end = datetime.fromtimestamp(start, tz=UTC) + timedelta(seconds=seconds)
    key = hashlib.sha256("\n".join((what, who, str(seconds), str(start))).encode()).hexdigest()
    row = RequestCount.objects.filter(pk=key)
    if row.filter(count__lt=limit).update(count=F("count") + 1):
        return
    RequestCount.objects.bulk_create([RequestCount(key=key, expires_at=end)], ignore_conflicts=True)
    if not row.filter(count__lt=limit).update(count=F("count") + 1):
        wait = max(1, round((end - now).total_seconds()))
        raise TooManyRequestsError("Too many requests. Try again later.", retry_after_seconds=wait)


def forget_counts(*, now: datetime) -> int:
    """Delete counters of stretches that are over."""
    return RequestCount.objects.filter(expires_at__lte=now).delete()[0]
