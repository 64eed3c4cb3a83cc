"""When beat last reached a worker: the whole way through scheduler, broker and worker. Kept in the site's cache."""

from __future__ import annotations

import time
from typing import Final

from django.core.cache import cache

STALE_AFTER_SECONDS: Final = 180.0
"""Three ticks were lost."""

_KEY: Final = "observability:last-beat"


def note_beat() -> None:
    """Keep that beat reached a worker now."""
    cache.set(_KEY, time.time(), timeout=None)


def beat_age_seconds() -> float | None:
    """Return how long ago that was, or None where it never happened or nobody remembers."""
    noted = cache.get(_KEY)
    return max(0.0, time.time() - noted) if isinstance(noted, int | float) else None
