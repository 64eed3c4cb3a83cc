"""Celery's transports, made to bear what would end a worker: unreadable messages, and a broker that is gone."""

from __future__ import annotations

import sqlite3
from functools import cached_property
from queue import Empty
from typing import Any, Final

import structlog
from kombu.transport import redis, sqlalchemy
from redis import exceptions

from .skipped_messages import UNREADABLE, note_skipped

_log = structlog.get_logger(__name__)
_UNREADABLE: Final = (ValueError, TypeError, KeyError, AttributeError)


class RedisQoS(redis.QoS):
    """Knows the messages that were taken and are not acknowledged yet."""

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Give them back, or forget them where Redis is gone. What they woke for stands in the database."""
        qos: Any = super()
        try:
            qos.restore_unacked_once(stderr)
        except (AttributeError, OSError, exceptions.RedisError) as error:
            if self._delivered is not None:
                self._delivered.clear()
            _log.warning("messages are not given back, the broker is gone", name=type(error).__name__)


class RedisChannel(redis.Channel):
    """Takes a message from Redis, whoever wrote it there."""

    QoS = RedisQoS

    def _connparams(self, asynchronous: bool = False) -> Any:
        """A task that ends after the connection was lost acknowledges on a channel that was closed meanwhile."""
        if self.connection is None:
            raise exceptions.ConnectionError("the broker is gone")
        channel: Any = super()
        return channel._connparams(asynchronous)

    def _brpop_read(self, **options: Any) -> Any:
        channel: Any = super()
        try:
            return channel._brpop_read(**options)
        except _UNREADABLE as error:
            raise _skipped(error) from None


class RedisTransport(redis.Transport):
    """Redis, and Redis with TLS."""

    Channel = RedisChannel


class SqlChannel(sqlalchemy.Channel):
    """Takes a message from the broker's file. A queue that was empty is looked into again once the file has changed."""

    def __init__(self, connection: Any, **options: Any) -> None:
        super().__init__(connection, **options)
        self._empty_at: dict[str, int] = {}

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        channel: Any = super()
        version = self._version()
        if self._empty_at.get(queue) == version:
            raise Empty
        try:
            message = channel._get(queue)
            message["properties"]["delivery_tag"]
        except Empty:
            self._empty_at[queue] = version
            raise
        except _UNREADABLE as error:
            raise _skipped(error) from None
        return message

    def _version(self) -> int:
        """Return SQLite's count of what others committed to the file: cheaper than any look into a queue."""
        (version,) = self._watching.execute("PRAGMA data_version").fetchone()
        return int(version)

    @cached_property
    def _watching(self) -> sqlite3.Connection:
        engine, _ = self._open()
        return sqlite3.connect(str(engine.url.database), check_same_thread=False)

    def close(self) -> None:
        if opened := self.__dict__.pop("_watching", None):
            opened.close()
        super().close()


class SqlTransport(sqlalchemy.Transport):
    """The embedded broker. Its messages are beat's: nobody waits for them."""

    Channel = SqlChannel
    polling_interval = 2.0


def _skipped(error: Exception) -> Empty:
    """Return what means that there was no message."""
    note_skipped(UNREADABLE, error=error)
    return Empty()
