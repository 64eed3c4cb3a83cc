"""How many streams there may be at once."""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import Final

from rest_framework.exceptions import Throttled

from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import TransportError

PER_USER: Final = 10
PER_PROCESS: Final = 1000
_RETRY_SECONDS: Final = 30


class Places:
    """Counts the open streams of this process. Taken in the threads of views, given back in the event loop.

    Spec: security notes G13.
    """

    def __init__(self, *, per_user: int = PER_USER, per_process: int = PER_PROCESS) -> None:
        self._per_user, self._per_process = per_user, per_process
        self._of_user: Counter[int] = Counter()
        self._lock = Lock()

    def take(self, user_id: int) -> None:
        """Take a place for one more stream of a user.

        Raises:
            Throttled: The user has as many as one may have; 429.
            TransportError: The process has; 503.
        """
        with self._lock:
            if self._of_user[user_id] >= self._per_user:
                raise Throttled(wait=_RETRY_SECONDS)
            if self._of_user.total() >= self._per_process:
                raise TransportError("no place for another stream", code=Code.TEMPORARILY_UNAVAILABLE)
            self._of_user[user_id] += 1

    def give_back(self, user_id: int) -> None:
        """Free a place that was taken."""
        with self._lock:
            self._of_user[user_id] -= 1
            if not self._of_user[user_id]:
                del self._of_user[user_id]

    @property
    def taken(self) -> int:
        """How many are taken."""
        with self._lock:
            return self._of_user.total()
