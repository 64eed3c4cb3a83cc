"""Where beat is silent, each worker looks by itself for tokens that are due: later, but not never. F06."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import structlog
from django.conf import settings
from django.db import connection
from django.utils import timezone

from audit.correlation import begin_correlation
from connections.database_time import by_database
from oauthflow.flows.refresh_due import refresh_due

from .observability.heartbeat import beat_is_silent
from .observability.metrics import STAND_IN_RUNS

_log: Final = structlog.get_logger(__name__)


class StandIn:
    """One worker's. Several workers do no harm: each row is claimed."""

    def __init__(self) -> None:
        self._is_needed = False

    def look(self, *, go_on: Callable[[], bool] = lambda: True) -> None:
        """Renew what is due if beat is silent; the log says once when that begins, and once when it ends."""
        silent = beat_is_silent()
        if silent != self._is_needed:
            self._is_needed = silent
            if silent:
                _log.error("beat is silent; workers look for what is due by themselves", name="beat")
            else:
                _log.info("beat is back", name="beat")
        if silent:
            STAND_IN_RUNS.inc()
            refresh_due(now=by_database(timezone.now()), go_on=go_on)


def stand_in_for_beat(stop: threading.Event) -> None:
    """Look twice in the time after which beat counts as silent, until told to stop. Survives everything."""
    stand_in = StandIn()
    while not stop.wait(settings.BEAT_SILENT_SECONDS / 2):
        begin_correlation()
        try:
            stand_in.look(go_on=lambda: not stop.is_set())
        except Exception as error:  # the database may be away; the next look comes
            _log.warning("stand_in.look_failed", exception=type(error).__name__)
        finally:
            connection.close()
