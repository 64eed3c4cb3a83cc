"""Learn at once, from Redis or PostgreSQL, that there are new events. Without either the reader looks by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

import psycopg
import redis.asyncio
import structlog
from django.conf import settings
from django.db import connection
from psycopg import sql

from oauthflow.event_wake import CHANNEL

_QUIET_SECONDS: Final = 15.0
_LONGEST_PAUSE_SECONDS: Final = 10.0
_log = structlog.get_logger(__name__)


class Listener:
    """Calls `wake` for each message, and after each new start, because something may have been missed.

    Attributes:
        listens: Whether messages arrive at the moment.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.listens = False

    async def run(self) -> None:
        """Listen until cancelled; returns where there is nothing to listen to."""
        pause = 1.0
        while (messages := _messages()) is not None:
            try:
                async with aclosing(messages):
                    async for _ in messages:
                        self.listens, pause = True, 1.0
                        self._wake()
            except (redis.RedisError, psycopg.Error, OSError) as error:
                _log.warning("nothing tells of new events; the reader looks by itself", name=type(error).__name__)
            self.listens = False
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def _messages() -> AsyncGenerator[None, None] | None:
    if settings.REDIS_URL:
        return _from_redis(settings.REDIS_URL)
    if connection.vendor == "postgresql":
        return _from_postgresql(connection.get_connection_params())
    return None


async def _from_redis(url: str) -> AsyncGenerator[None, None]:
    client: Any = redis.asyncio.Redis.from_url(url, socket_connect_timeout=2.0, health_check_interval=_QUIET_SECONDS)
    try:
        async with client.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            yield None
            while True:
                if await channel.get_message(ignore_subscribe_messages=True, timeout=_QUIET_SECONDS) is not None:
                    yield None
    finally:
        await client.aclose()


async def _from_postgresql(parameters: dict[str, Any]) -> AsyncGenerator[None, None]:
    """One connection outside of Django's pool."""
    wanted = {name: value for name, value in parameters.items() if name not in ("cursor_factory", "context")}
    async with await psycopg.AsyncConnection.connect(**wanted, autocommit=True) as listening:
        await listening.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
        yield None
        while True:
            async for _ in listening.notifies(timeout=_QUIET_SECONDS):
                yield None
            await listening.execute("SELECT 1")
