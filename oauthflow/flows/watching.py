"""What a worker does again and again beside its tasks, in threads of its own, which are waited for at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog
from django.db import connection

from audit.correlation import begin_correlation
from oauthflow.egress import leave_database

_log: Final = structlog.get_logger(__name__)
_begun: Final[list[threading.Thread]] = []


def begin(watching: Callable[[threading.Event], object], *, name: str, stop: threading.Event) -> None:
    """Let it watch in a thread until told to stop."""
    thread = threading.Thread(target=watching, args=(stop,), name=name, daemon=True)
    thread.start()
    _begun.append(thread)


def await_ends(*, seconds: float) -> None:
    """Wait for those that were told to stop: they may have requests under way, whose answers are to be kept."""
    until = time.monotonic() + seconds
    while _begun:
        _begun.pop().join(max(0.0, until - time.monotonic()))


def watch(look: Callable[[], object], *, name: str, every: float, stop: threading.Event) -> None:
    """Look, each time under an id of its own, every so many seconds until told to stop. Survives everything.

    A file of SQLite stays open in between: opening it costs more than most looks do.
    """
    while True:
        begin_correlation()
        try:
            look()
            leave_database()
        except Exception as error:  # the database may be away; the next look comes
            _log.warning(f"{name}.watch_failed", exception=type(error).__name__)
            connection.close()
        if stop.wait(every):
            connection.close()
            return
