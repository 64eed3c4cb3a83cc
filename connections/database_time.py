"""The database's clock is the one that counts: machines whose clocks differ agree on what is due and over. F19."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Final

from django.db import connection
from django.utils import timezone

_MEASURED_EVERY: Final = 60.0
_NEGLIGIBLE: Final = timedelta(seconds=1)


class _Offset:
    """How far the database is ahead of us; measured once a minute, nothing where both are on one machine."""

    def __init__(self) -> None:
        self.value = timedelta(0)
        self._measured_at = float("-inf")

    def measured(self) -> timedelta:
        if time.monotonic() - self._measured_at >= _MEASURED_EVERY:
            self.value = _measure() if connection.vendor == "postgresql" else timedelta(0)
            self._measured_at = time.monotonic()
        return self.value

    def forget(self) -> None:
        self._measured_at = float("-inf")


offset: Final = _Offset()


def by_database(now: datetime) -> datetime:
    """Return what a reading of this machine's clock is by the database's; may ask the database."""
    return now + offset.measured()


def _measure() -> timedelta:
    before = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (theirs,) = cursor.fetchone()
    difference: timedelta = theirs - (before + (timezone.now() - before) / 2)
    return difference if abs(difference) > _NEGLIGIBLE else timedelta(0)
