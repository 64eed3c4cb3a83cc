"""The worker's look after webhooks: a thread beside the tasks, so that slow receivers take no place from a refresh."""

from __future__ import annotations

import threading
from typing import Final

import structlog
from django.db import connection

from .deliver import deliver_due

SECONDS: Final = 3.0
_log: Final = structlog.get_logger(__name__)


def watch_webhooks(stop: threading.Event) -> None:
    """Send what is due, every three seconds until told to stop. Survives everything."""
    while True:
        try:
            deliver_due(go_on=lambda: not stop.is_set())
        except Exception as error:  # the database may be away; the next look comes
            _log.warning("webhook.watch_failed", error=type(error).__name__)
        finally:
            connection.close()
        if stop.wait(SECONDS):
            return
