"""When beat last reached a worker: the whole way through scheduler, broker and worker. Kept in the site's cache."""

from __future__ import annotations

import time

from django.conf import settings
from django.core.cache import cache
from django.utils import timezone

from connections.database_time import by_database

_KEY = "observability:last-beat"
_started_at = time.monotonic()


def note_beat() -> None:
    """Keep that beat reached a worker now."""
    cache.set(_KEY, _now(), timeout=None)


def beat_age_seconds() -> float | None:
    """Return how long ago that was, or None where it never happened or nobody remembers."""
    noted = cache.get(_KEY)
    return max(0.0, _now() - noted) if isinstance(noted, int | float) else None


def beat_is_silent() -> bool:
    """Whether beat was not heard for `BEAT_SILENT_SECONDS`. A process that has just started waits as long."""
    age, since_start = beat_age_seconds(), time.monotonic() - _started_at
    patience: float = settings.BEAT_SILENT_SECONDS
    return min(since_start, age if age is not None else since_start) > patience


def _now() -> float:
    """The database's clock: those of machines differ."""
    return by_database(timezone.now()).timestamp()
