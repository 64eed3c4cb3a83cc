"""How many requests one process sends to one issuer: a bucket for each, refilled all the time. R6."""

from __future__ import annotations

import threading
import time
from typing import Final

PER_SECOND: Final = 100.0
AT_ONCE: Final = 200.0


class Pace:
    """A bucket of requests for each issuer; full at first."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}
        self._guard = threading.Lock()

    def room(self, issuer: str) -> int:
        """Return how many requests may be sent now."""
        with self._guard:
            return max(0, int(self._filled(issuer)))

    def note_sent(self, issuer: str) -> None:
        """Count a request."""
        with self._guard:
            self._left[issuer] = (self._filled(issuer) - 1, time.monotonic())

    def _filled(self, issuer: str) -> float:
        moment = time.monotonic()
        left, before = self._left.get(issuer, (AT_ONCE, moment))
        return min(AT_ONCE, left + (moment - before) * PER_SECOND)


pace: Final = Pace()
"""Of this process."""
