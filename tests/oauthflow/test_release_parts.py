"""The parts of the token release: its SQL against the models, its memory, its threads."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.contrib.auth.models import User
from django.db import models

from connections.models import ApiToken, Connection, McpServer, TokenSet
from oauthflow.flows.access_token import due_at, is_due
from oauthflow.hot_path import batches
from oauthflow.hot_path.batches import Batches, BatchesFullError, StuckError
from oauthflow.hot_path.opened import OpenedRows
from oauthflow.hot_path.threads import Threads
from oauthflow.protocol.grant_types import GrantType
from oauthflow.token_release.opened import Opened
from oauthflow.token_release.statements import QUESTION, StoredTokens

_MODELS: dict[str, list[type[models.Model]]] = {
    "t": [ApiToken],
    "u": [User],
    "c": [Connection],
    "s": [McpServer],
    "k": [TokenSet],
    "m": [McpServer.users.through, McpServer.groups.through],
    "g": [User.groups.through],
}


@pytest.mark.parametrize("statement", [QUESTION.sqlite, QUESTION.postgresql])
def test_every_table_and_column_of_the_statement_is_one_of_the_models(statement: str) -> None:
    tables = set(re.findall(r"\b(?:FROM|JOIN)\s+(\w+)\s+(\w)\b", statement))
    assert tables == {(kind._meta.db_table, alias) for alias, kinds in _MODELS.items() for kind in kinds}
    for alias, column in set(re.findall(r"\b([tucskmg])\.(\w+)", statement)):
        known = {field.column for kind in _MODELS[alias] for field in kind._meta.concrete_fields}
        assert column in known, f"{alias}.{column}"


def test_the_words_of_the_statement_are_those_of_the_models() -> None:
    assert set(re.findall(r"'(\w+)'", QUESTION.sqlite)) == {
        Connection.Status.ACTIVE.value, McpServer.AuthType.OAUTH.value, McpServer.Status.INACTIVE.value,
        GrantType.AUTHORIZATION_CODE.value,
    }  # fmt: skip


def test_the_columns_of_a_token_set_have_their_names() -> None:
    assert set(StoredTokens._fields) <= {field.attname for field in TokenSet._meta.concrete_fields}


_OBTAINED = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize("life_seconds", [None, 0, 1, 60, 599, 600, 601, 3600, 31_536_000])
def test_a_token_is_due_from_the_moment_at_which_the_flow_refreshes_it(life_seconds: int | None) -> None:
    expires_at = None if life_seconds is None else _OBTAINED + timedelta(seconds=life_seconds)
    stored = cast("TokenSet", SimpleNamespace(obtained_at=_OBTAINED, expires_at=expires_at))
    found = due_at(obtained_at=_OBTAINED, expires_at=expires_at)
    if found is None:
        assert not is_due(stored, now=_OBTAINED + timedelta(days=10_000))
        return
    assert is_due(stored, now=found)
    assert not is_due(stored, now=found - timedelta(microseconds=1))


def _stored(connection: str, *, generation: int = 1) -> StoredTokens:
    return StoredTokens("id", connection, generation, "sealed", "Bearer", "", "", "", None)


def _opened(text: str) -> Opened:
    return Opened(text.encode(), cast("Any", None), None)


def test_an_opened_token_is_found_under_exactly_its_row() -> None:
    kept: OpenedRows[StoredTokens, Opened] = OpenedRows()
    kept.keep(_stored("a"), _opened("first"))
    assert kept.get(_stored("a")) == _opened("first")
    assert kept.get(_stored("a", generation=2)) is None
    assert kept.get(_stored("a")._replace(access_token_sealed="other")) is None
    kept.keep(_stored("a", generation=2), _opened("second"))
    assert kept.get(_stored("a")) is None


def test_no_more_tokens_stay_open_than_allowed_and_the_least_used_goes_first() -> None:
    kept: OpenedRows[StoredTokens, Opened] = OpenedRows(size=2)
    kept.keep(_stored("a"), _opened("a"))
    kept.keep(_stored("b"), _opened("b"))
    assert kept.get(_stored("a")) is not None
    kept.keep(_stored("c"), _opened("c"))
    assert [kept.get(_stored(name)) is not None for name in "abc"] == [True, False, True]


def _batches(
    work: Any, *, capacity: int = 100, ended: threading.Event | None = None, patience_seconds: float | None = None
) -> Batches[int, int]:
    at_end = (ended or threading.Event()).set
    return Batches(work, at_end=at_end, name="test", capacity=capacity, patience_seconds=patience_seconds)


def test_what_comes_while_the_thread_is_busy_is_worked_on_at_once() -> None:
    sizes: list[int] = []
    first, go_on = threading.Event(), threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        first.set()
        go_on.wait(10)
        return [item * 2 for item in items]

    async def use() -> list[int]:
        batches = _batches(work)
        futures = [batches.put(0)]
        await asyncio.to_thread(first.wait, 10)
        futures += [batches.put(number) for number in range(1, 10)]
        go_on.set()
        results = [await future for future in futures]
        await batches.close()
        return results

    assert asyncio.run(use()) == [number * 2 for number in range(10)]
    assert sizes == [1, 9]


def test_only_right_after_a_crowd_is_more_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, waited = [100.0], list[float]()
    monkeypatch.setattr(batches, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=waited.append))

    async def use() -> None:
        gathering = Batches[int, int](list, at_end=lambda: None, name="test", capacity=9, gathering_seconds=1.0)
        await gathering.put(1)
        await asyncio.gather(gathering.put(2), gathering.put(3))
        assert waited == []
        await gathering.put(4)
        assert waited == [1.0]
        clock[0] += 60
        await gathering.put(5)
        assert waited == [1.0]
        await gathering.close()

    asyncio.run(use())


def test_what_fails_reaches_everybody_concerned_and_the_thread_goes_on() -> None:
    def work(items: Sequence[int]) -> list[int]:
        if 0 in items:
            raise ValueError("zero")
        return list(items)

    async def use() -> list[object]:
        batches = _batches(work)
        both = await asyncio.gather(batches.put(0), batches.put(1), return_exceptions=True)
        after = await batches.put(2)
        await batches.close()
        return [*both, after]

    *both, after = asyncio.run(use())
    assert [type(each) for each in both] == [ValueError, ValueError]
    assert after == 2


def test_more_than_the_capacity_is_refused_until_there_is_room() -> None:
    go_on = threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        go_on.wait(10)
        return list(items)

    async def use() -> int:
        batches = _batches(work, capacity=2)
        waiting = [batches.put(1), batches.put(2)]
        with pytest.raises(BatchesFullError):
            batches.put(3)
        go_on.set()
        await asyncio.gather(*waiting)
        last = await batches.put(4)
        await batches.close()
        return last

    assert asyncio.run(use()) == 4


def test_closing_finishes_what_was_put_and_ends_the_thread() -> None:
    done: list[int] = []
    ended = threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        done.extend(items)
        return list(items)

    async def use() -> None:
        batches = _batches(work, ended=ended)
        batches.put(1)
        batches.put(2)
        await batches.close()

    asyncio.run(use())
    assert (done, ended.is_set()) == ([1, 2], True)


def test_who_waits_for_a_thread_that_is_stuck_is_told_and_who_comes_later_is_served() -> None:
    go_on = threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        if 0 in items:
            go_on.wait(10)
        return list(items)

    async def use() -> int:
        batches = _batches(work, patience_seconds=0.1)
        first = batches.put(0)
        for waiting in (first, batches.put(1)):
            with pytest.raises(StuckError):
                await asyncio.wait_for(waiting, 5)
        late = batches.put(2)
        with pytest.raises(StuckError):
            await asyncio.wait_for(late, 5)
        go_on.set()
        last = await batches.put(3)
        await batches.close()
        return last

    assert asyncio.run(use()) == 3


def test_who_waits_for_threads_that_are_all_stuck_is_told() -> None:
    go_on, ran = threading.Event(), list[int]()

    async def use() -> int:
        threads = Threads(1, name="test", patience_seconds=0.1)
        for call in (partial(go_on.wait, 10), partial(ran.append, 1)):
            with pytest.raises(StuckError):
                await threads.run(call)
        await asyncio.sleep(0)  # in which the second is taken back
        go_on.set()
        await threads.run(partial(ran.append, 2))
        await threads.close()
        return len(ran)

    assert asyncio.run(use()) == 1
    assert ran == [2]
