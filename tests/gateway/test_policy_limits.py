"""Requests a minute: a bucket for each person at each server, shared by all processes where there is Redis."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator

import pytest
from pytest_django import Settings

from gateway.endpoint.answers import BusyError
from gateway.policies.call_limits import Buckets, CallLimits
from tests.gateway.policy_stage import until
from tests.product import free_port
from tests.scale.services import PrivateRedis

KEY = ("server", 1)


def test_a_full_bucket_lets_so_many_through_at_once_and_then_so_many_a_minute() -> None:
    buckets = Buckets()
    taken = [buckets.take(KEY, size=6, needed=1, now=100.0) for _ in range(7)]
    assert taken == [0, 0, 0, 0, 0, 0, pytest.approx(10)]
    assert buckets.take(KEY, size=6, needed=1, now=109.9) > 0
    assert buckets.take(KEY, size=6, needed=1, now=110.1) == 0
    later = [buckets.take(KEY, size=6, needed=1, now=10_000.0) for _ in range(7)]
    assert [wait > 0 for wait in later] == [False] * 6 + [True]


def test_nobody_spends_what_is_somebody_elses() -> None:
    buckets = Buckets()
    assert buckets.take(KEY, size=1, needed=1, now=0.0) == 0
    assert buckets.take(("server", 2), size=1, needed=1, now=0.0) == 0
    assert buckets.take(("other", 1), size=1, needed=1, now=0.0) == 0
    assert buckets.take(KEY, size=1, needed=1, now=0.0) > 0


def test_memory_is_bounded() -> None:
    buckets = Buckets(most=3)
    for person in range(10):
        buckets.take(("server", person), size=1, needed=1, now=0.0)
    assert len(buckets._kept) == 3
    assert buckets.take(("server", 9), size=1, needed=1, now=0.0) > 0


async def _let_through(limits: CallLimits, count: int, *, limit: int | None, requests: int = 1) -> int:
    refused = []
    for _ in range(count):
        try:
            await limits.take("server", 1, calls_per_minute=limit, requests=requests)
        except BusyError as error:
            refused.append((error.status, *error.headers[0]))
    assert {(status, name, int(value) > 0) for status, name, value in refused} <= {(429, b"retry-after", True)}
    return count - len(refused)


async def test_over_the_limit_is_a_429_that_says_when(settings: Settings) -> None:
    settings.REDIS_URL = ""
    limits = CallLimits()
    await limits.open()
    assert await _let_through(limits, 10, limit=3) == 3
    assert await _let_through(limits, 10, limit=None) == 10
    await limits.close()


async def test_a_batch_counts_as_often_as_it_asks(settings: Settings) -> None:
    settings.REDIS_URL = ""
    limits = CallLimits()
    await limits.open()
    assert await _let_through(limits, 3, limit=10, requests=4) == 2
    await limits.close()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    server = PrivateRedis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def shared(redis: PrivateRedis, settings: Settings) -> str:
    """The name of a server that nobody has called yet."""
    settings.REDIS_URL = redis.url
    return f"server-{uuid.uuid4()}"


async def _in_processes(work: Callable[[CallLimits], Awaitable[int]], *, processes: int = 3) -> list[int]:
    all_limits = [CallLimits() for _ in range(processes)]
    for limits in all_limits:
        await limits.open()
    counted = await asyncio.gather(*(work(limits) for limits in all_limits))
    for limits in all_limits:
        await limits.close()
    return counted


@pytest.mark.parametrize("limit", [5, 120])
async def test_processes_together_let_no_more_through_than_one(shared: str, limit: int) -> None:
    async def work(limits: CallLimits) -> int:
        through = 0
        for _ in range(limit):
            try:
                await limits.take(shared, 1, calls_per_minute=limit)
                through += 1
            except BusyError:
                await asyncio.sleep(0)
        return through

    counted = await _in_processes(work)
    # Some may be refilled meanwhile, and a process may keep a share in hand that it cannot spend.
    assert limit - 3 * (limit // 50) <= sum(counted) <= limit + 2


async def test_a_process_asks_redis_once_for_several_calls(shared: str) -> None:
    asked = 0

    async def work(limits: CallLimits) -> int:
        nonlocal asked
        script = limits._script

        async def counted(**said: object) -> object:
            nonlocal asked
            asked += 1
            return await script(**said)

        limits._script = counted
        for _ in range(100):
            await limits.take(shared, 1, calls_per_minute=1000)
        return 100

    await _in_processes(work, processes=1)
    assert asked <= 6


async def test_where_redis_is_away_each_process_counts(settings: Settings) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    limits = CallLimits()
    await limits.open()
    assert await _let_through(limits, 10, limit=4) == 4

    async def is_over() -> bool:
        return await _let_through(limits, 1, limit=4) == 0

    assert await until(is_over) < 1
    await limits.close()
