"""Rows that wait to be sent: claimed one by one, tried again after growing pauses, given up after a day.

Such a row has `attempts`, which also tells claims apart, and `next_attempt_at`: when it is next due, null once it is
over. Whoever dies with a claim delays its row, and loses nothing.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from django.db import models
from django.db.models import F

Row = TypeVar("Row", bound=models.Model)

CLAIM: Final = timedelta(minutes=2)
"""Longer than any sending takes."""
PATIENCE: Final = timedelta(hours=24)
_FIRST_PAUSE: Final = timedelta(seconds=10)
_LONGEST_PAUSE: Final = timedelta(hours=1)
_MOST_DOUBLINGS: Final = 12
_random = secrets.SystemRandom()


def claim_due(rows: models.QuerySet[Row], *, now: datetime, most: int) -> list[Row]:
    """Take rows that are due, the longest due first; what somebody else took meanwhile is left out."""
    due = rows.filter(next_attempt_at__lte=now).order_by("next_attempt_at")[:most]
    return [row for row in due if claim(row, now=now)]


def claim(row: Any, *, now: datetime) -> bool:
    """Take one row as it was read; False where somebody else took it meanwhile, or it is not due any more."""
    unclaimed = type(row)._base_manager.filter(pk=row.pk, attempts=row.attempts, next_attempt_at__lte=now)
    if not unclaimed.update(attempts=F("attempts") + 1, next_attempt_at=now + CLAIM):
        return False
    row.attempts += 1
    return True


def write_back(row: Any, **columns: object) -> bool:
    """Write what became of a claimed row; False where the claim has ended and somebody else has it."""
    return bool(type(row)._base_manager.filter(pk=row.pk, attempts=row.attempts).update(**columns))


def pause_after(attempts: int, *, asked_seconds: int | None = None) -> timedelta:
    """Return how long to wait after so many attempts: 10 s, doubled each time up to an hour, with full jitter.

    Args:
        attempts: How many there were, at least 1.
        asked_seconds: What the other side asked for (`Retry-After`); it is not tried sooner.
    """
    doublings = min(attempts - 1, _MOST_DOUBLINGS)
    longest = min(_FIRST_PAUSE.total_seconds() * 2.0**doublings, _LONGEST_PAUSE.total_seconds())
    return timedelta(seconds=max(longest * _random.random(), float(asked_seconds or 0)))
