"""The worker's look after refreshes that died: soon enough for servers that forgive a repeated token for 10 seconds."""

from __future__ import annotations

import threading
from typing import Final

import structlog
from django.db import connection
from django.utils import timezone

from connections.database_time import by_database

from .recovery import recover_abandoned, replay_spool

SECONDS: Final = 2.0
_log: Final = structlog.get_logger(__name__)


def watch_for_the_dead(stop: threading.Event) -> None:
    """Apply what is in the spool, then look every two seconds until told to stop. Survives everything."""
    work = [replay_spool]
    while True:
        try:
            while work:
                work.pop()()
            recover_abandoned(now=by_database(timezone.now()))
        except Exception as error:  # the database may be away; the next look comes
            _log.warning("refresh.watch_failed", error=type(error).__name__)
        finally:
            connection.close()
        if stop.wait(SECONDS):
            return
