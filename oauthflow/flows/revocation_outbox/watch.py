"""The worker's look after what services still have to be told: a thread beside the tasks, as for webhooks."""

from __future__ import annotations

import threading
from typing import Final

import structlog
from django.db import connection
from django.utils import timezone

from .batch import revoke_due

SECONDS: Final = 5.0
_log: Final = structlog.get_logger(__name__)


def watch_revocations(stop: threading.Event) -> None:
    """Send what is due, every five seconds until told to stop. Survives everything."""
    while True:
        try:
            revoke_due(now=timezone.now(), go_on=lambda: not stop.is_set())
        except Exception as error:  # the database may be away; the next look comes
            _log.warning("revocation.watch_failed", error=type(error).__name__)
        finally:
            connection.close()
        if stop.wait(SECONDS):
            return
