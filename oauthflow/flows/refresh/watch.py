"""The worker's look after refreshes that died: soon enough for servers that forgive a repeated token for 10 seconds."""

from __future__ import annotations

import threading
from typing import Final

from django.utils import timezone

from connections.database_time import by_database

from ..watching import watch
from .recovery import recover_abandoned
from .replay import replay_spool

SECONDS: Final = 2.0


def watch_for_the_dead(stop: threading.Event) -> None:
    """Apply what is in the spool, then look every two seconds until told to stop."""
    at_first = [replay_spool]

    def look() -> None:
        while at_first:
            at_first.pop()()
        recover_abandoned(now=by_database(timezone.now()), go_on=lambda: not stop.is_set())

    watch(look, name="refresh", every=SECONDS, stop=stop)
