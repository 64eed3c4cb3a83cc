"""The cache in Redis, which may be away: then each process remembers for itself for a few seconds, and nobody waits."""

from __future__ import annotations

import json
import threading
import time
from typing import Any, Final

import structlog
from django.core.cache import DEFAULT_CACHE_ALIAS, caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError

_WAIT_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 5.0
_log = structlog.get_logger(__name__)


def redis_cache(url: str) -> dict[str, Any]:
    """Return the entry of CACHES for a Redis."""
    return {
        "BACKEND": "mcp_oauth_site.caches.ResilientRedisCache",
        "LOCATION": url,
        "OPTIONS": {
            "serializer": "mcp_oauth_site.caches.JsonSerializer",
            "socket_connect_timeout": _WAIT_SECONDS,
            "socket_timeout": _WAIT_SECONDS,
        },
    }


class JsonSerializer:
    """Values as JSON: whoever can write to Redis could have a pickle run code here."""

    def dumps(self, value: Any) -> bytes | int:
        """Return what Redis keeps; a whole number stays one, so that Redis can count."""
        return value if type(value) is int else json.dumps(value).encode()

    def loads(self, data: bytes | str) -> Any:
        """Return the value, or None where somebody wrote what is not JSON."""
        try:
            return json.loads(data)
        except ValueError:
            return None


def _resilient(name: str) -> Any:
    def method(self: ResilientRedisCache, *args: Any, **kwargs: Any) -> Any:
        return self.either(name, *args, **kwargs)

    return method


class ResilientRedisCache(RedisCache):
    """Redis, or for five seconds after each failure the memory of this process.

    What the cache holds saves work and counts attempts. Nothing in it decides who may do what.
    """

    add, get, set, touch, delete = map(_resilient, ("add", "get", "set", "touch", "delete"))
    get_many, set_many, delete_many = map(_resilient, ("get_many", "set_many", "delete_many"))
    has_key, incr, clear = map(_resilient, ("has_key", "incr", "clear"))

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._memory = LocMemCache("resilient-redis-cache", {})

    @property
    def is_away(self) -> bool:
        """Whether Redis failed within the last five seconds."""
        return time.monotonic() < _absence.until

    def either(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the cache in Redis, or where that fails of the one in memory."""
        if not self.is_away:
            try:
                return getattr(super(), name)(*args, **kwargs)
            except (RedisError, OSError) as error:
                _absence.begin(type(error).__name__)
        return getattr(self._memory, name)(*args, **kwargs)


class _Absence:
    """Shared by the threads of a process, each of which has a cache object of its own."""

    def __init__(self) -> None:
        self.until = 0.0
        self._lock = threading.Lock()

    def begin(self, why: str) -> None:
        with self._lock:
            if time.monotonic() >= self.until:
                _log.warning("redis is away; the cache is kept in memory meanwhile", name=why, seconds=_PAUSE_SECONDS)
            self.until = time.monotonic() + _PAUSE_SECONDS


_absence: Final = _Absence()


def cache_is_shared() -> bool:
    """Say whether what one process keeps is there for the others at the moment."""
    cache = caches[DEFAULT_CACHE_ALIAS]
    return not (isinstance(cache, ResilientRedisCache) and cache.is_away)
