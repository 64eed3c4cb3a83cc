"""Tell readers of events in other processes that there is something new. A wake-up that is lost costs half a second."""

from __future__ import annotations

import time
from typing import Any, Final

import redis
import structlog
from django.conf import settings
from django.db import connection, transaction

CHANNEL: Final = "mcp_oauth_events"
"""The Redis channel, and the PostgreSQL channel where there is no Redis. Messages are empty: the rows tell."""

# Whoever commits does not wait for a Redis that is away.
_WAIT_SECONDS: Final = 0.3
_PAUSE_SECONDS: Final = 5.0
_log = structlog.get_logger(__name__)


def announce() -> None:
    """Have readers woken when the current transaction is committed; readers of SQLite look by themselves."""
    if settings.REDIS_URL:
        transaction.on_commit(_bell.ring, robust=True)
    elif connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])


class _Bell:
    """One client for the process; after a failure it is left alone for a while."""

    def __init__(self) -> None:
        self._client: Any = None
        self._silent_until = 0.0

    def ring(self) -> None:
        if time.monotonic() < self._silent_until:
            return
        if self._client is None:
            self._client = redis.Redis.from_url(
                settings.REDIS_URL, socket_timeout=_WAIT_SECONDS, socket_connect_timeout=_WAIT_SECONDS
            )
        try:
            self._client.publish(CHANNEL, b"")
        except (redis.RedisError, OSError) as error:
            self._silent_until = time.monotonic() + _PAUSE_SECONDS
            _log.warning("redis is away; readers of events look by themselves", name=type(error).__name__)


_bell: Final = _Bell()
