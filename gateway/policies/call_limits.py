"""How many requests a person may make a minute: token buckets, in Redis for all processes, or in memory for one."""

from __future__ import annotations

import math
import time
from typing import Any, Final

import redis.asyncio
import structlog
from django.conf import settings
from redis.exceptions import RedisError

from oauthflow.newest import Newest

from ..endpoint.answers import BusyError

_MOST_BUCKETS: Final = 50_000
_WAIT_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 5.0
_SHARE: Final = 50
_SPENT_WITHIN_SECONDS: Final = 2.0
_SENTENCE: Final = "Too many requests in a short time. Try again in a while."

# KEYS[1]: the bucket. ARGV: its size, tokens a second, tokens needed, tokens wanted. Returns the tokens that were
# taken, and how many milliseconds to wait where there were not enough. Redis' own clock is the same for all.
_TAKE: Final = """
local size, rate, needed, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = math.min(size, (tonumber(kept[1]) or size) + math.max(0, now - (tonumber(kept[2]) or now)) * rate)
local taken, wait = 0, 0
if tokens >= needed then taken = math.max(needed, math.min(wanted, math.floor(tokens)))
else wait = math.ceil((needed - tokens) / rate * 1000) end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens - taken), 'at', tostring(now))
redis.call('EXPIRE', KEYS[1], math.ceil(size / rate) + 1)
return {taken, wait}
"""
_log = structlog.get_logger(__name__)


class Buckets:
    """Token buckets in memory; the least used ones are forgotten, and so full again."""

    def __init__(self, *, most: int = _MOST_BUCKETS) -> None:
        self._kept: Newest[tuple[object, int], tuple[float, float]] = Newest(most=most)

    def take(self, key: tuple[object, int], *, size: int, needed: int, now: float) -> float:
        """Take tokens, or say how many seconds there are too few of them; 0: they were taken.

        Args:
            key: Server and person.
            size: Tokens in a full bucket; it fills within a minute.
            needed: At most `size`.
            now: Seconds of a clock that only goes forward.
        """
        tokens, at = self._kept.get(key, (float(size), now))
        tokens = min(float(size), tokens + (now - at) * size / 60)
        if tokens < needed:
            return (needed - tokens) * 60 / size
        self._kept[key] = (tokens - needed, now)
        return 0.0


class CallLimits:
    """Counts requests. `open` it in the event loop whose calls it counts, and `close` it there.

    With Redis a process takes a few tokens at a time, so that not each call waits for Redis; all processes together
    never let more through than one would. Where Redis is away, each process counts by itself for five seconds.
    """

    def __init__(self) -> None:
        self._memory = Buckets()
        self._in_hand: dict[tuple[object, int], tuple[int, float]] = {}
        self._away_until = float("-inf")
        self._redis: Any = None

    async def open(self) -> None:
        """Begin to use Redis, where the site has one."""
        if settings.REDIS_URL:
            self._redis = redis.asyncio.Redis.from_url(
                settings.REDIS_URL, socket_timeout=_WAIT_SECONDS, socket_connect_timeout=_WAIT_SECONDS
            )
            self._script = self._redis.register_script(_TAKE)

    async def close(self) -> None:
        """Let go of Redis."""
        if self._redis is not None:
            await self._redis.aclose()

    async def take(self, server: object, user_id: int, *, calls_per_minute: int | None, requests: int = 1) -> None:
        """Count requests of a person at a server.

        Args:
            server: Its id.
            user_id: The person.
            calls_per_minute: The limit; None: nothing is counted.
            requests: How many a batch has. More than the limit are counted as a full bucket.

        Raises:
            BusyError: There were too many; 429.
        """
        if calls_per_minute is None:
            return
        key, needed, now = (server, user_id), min(max(requests, 1), calls_per_minute), time.monotonic()
        if self._redis is None or now < self._away_until:
            wait = self._memory.take(key, size=calls_per_minute, needed=needed, now=now)
        else:
            wait = await self._take_shared(key, size=calls_per_minute, needed=needed, now=now)
        if wait:
            raise BusyError(429, _SENTENCE, wait_seconds=math.ceil(wait))

    async def _take_shared(self, key: tuple[object, int], *, size: int, needed: int, now: float) -> float:
        tokens, until = self._in_hand.get(key, (0, 0.0))
        if tokens >= needed and now < until:
            self._in_hand[key] = (tokens - needed, until)
            return 0.0
        try:
            taken, wait_ms = await self._script(
                keys=[f"gateway-calls:{key[0]}:{key[1]}"], args=[size, size / 60, needed, needed + size // _SHARE]
            )
        except (RedisError, OSError) as error:
            _log.warning("redis is away; requests are counted in this process alone", name=type(error).__name__)
            self._away_until = now + _PAUSE_SECONDS
            return self._memory.take(key, size=size, needed=needed, now=now)
        if len(self._in_hand) >= _MOST_BUCKETS:
            self._in_hand.clear()
        if taken > needed:
            self._in_hand[key] = (taken - needed, now + _SPENT_WITHIN_SECONDS)
        return float(wait_ms / 1000)
