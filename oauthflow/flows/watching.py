"""What a worker does again and again beside its tasks, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import structlog
from django.db import connection

from oauthflow.egress import leave_database

_log: Final = structlog.get_logger(__name__)


def watch(look: Callable[[], object], *, name: str, every: float, stop: threading.Event) -> None:
    """Look, and again every so many seconds, until told to stop. Survives everything.

    A file of SQLite stays open in between: opening it costs more than most looks do.
    """
    while True:
        try:
            look()
            leave_database()
        except Exception as error:  # the database may be away; the next look comes
            _log.warning(f"{name}.watch_failed", exception=type(error).__name__)
            connection.close()
        if stop.wait(every):
            connection.close()
            return
