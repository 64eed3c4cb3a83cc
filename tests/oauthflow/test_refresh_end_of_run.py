"""How a run ends: when it takes long, when its worker is stopped, when something unexpected comes in between."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from kombu.exceptions import OperationalError as BrokerError
from pytest_django import Settings

from connections.models import Connection, TokenSet
from oauthflow import tasks
from oauthflow.conf import configuration
from oauthflow.egress import Limits
from oauthflow.flows import watching
from oauthflow.flows.refresh import batch
from oauthflow.flows.refresh.pace import pace
from oauthflow.flows.refresh.queues import KEPT_FREE
from oauthflow.flows.refresh.watch import watch_for_the_dead
from oauthflow.flows.refresh_due import refresh_due, refresh_in_turn
from tests.fakes.world import World

DUE = timedelta(seconds=3000)
AT_ONCE = 20 - KEPT_FREE


@pytest.fixture
def many(world: World, now: datetime) -> list[Connection]:
    """Of one issuer, more than it is asked for at a time."""
    people = [User.objects.create_user(f"user{number}") for number in range(30)]
    made = [world.connect(person, now=now) for person in people]
    world.authorization_server.refresh_requests.clear()
    return made


def renewed() -> int:
    return TokenSet.objects.filter(generation=2, lease_owner="").count()


def untouched() -> int:
    return TokenSet.objects.filter(generation=1, lease_owner="", refresh_failures=0, next_attempt_at=None).count()


def test_a_run_that_is_to_end_claims_nothing_more_and_keeps_every_answer_under_way(
    world: World, many: list[Connection], now: datetime
) -> None:
    goes_on = [True]
    world.authorization_server.before_token_answer = goes_on.clear

    assert refresh_due(now=now + DUE, go_on=lambda: bool(goes_on)) == {"refreshed": AT_ONCE, "failed": 0}
    assert (renewed(), untouched()) == (AT_ONCE, len(many) - AT_ONCE)
    assert len(world.authorization_server.refresh_requests) == AT_ONCE


def test_one_after_the_other_ends_too(world: World, many: list[Connection], now: datetime) -> None:
    goes_on = [True]
    world.authorization_server.before_token_answer = goes_on.clear
    due = Connection.objects.due_for_refresh(now=now + DUE)
    assert refresh_in_turn(due, now=now + DUE, go_on=lambda: bool(goes_on)) == {"refreshed": 1, "failed": 0}


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was said with each message that wakes a run."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(tasks.refresh_due_tokens, "apply_async", lambda **options: sent.append(options))
    return sent


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, now: datetime) -> Iterator[list[float]]:
    """The monotonic clock of all, in seconds, and a wall clock at which all tokens are due."""
    moment = [1000.0]
    pace._left.clear()  # which went by the other clock
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: moment[0])
        patch.setattr(tasks, "by_database", lambda read: now + DUE)
        yield moment
    pace._left.clear()


def test_a_run_that_takes_long_leaves_the_rest_to_one_that_begins_at_once(
    world: World, many: list[Connection], clock: list[float], woken: list[dict[str, Any]]
) -> None:
    def takes_its_time() -> None:
        clock[0] += tasks.RUN_SECONDS / 10

    world.authorization_server.before_token_answer = takes_its_time
    tasks.refresh_due_tokens()
    assert renewed() == AT_ONCE
    assert renewed() + untouched() == len(many)
    (message,) = woken
    assert message["expires"] <= 60

    world.authorization_server.before_token_answer = None
    tasks.refresh_due_tokens()
    assert (renewed(), len(woken)) == (len(many), 1)
    assert len(world.authorization_server.refresh_requests) == len(many)


@pytest.mark.parametrize(("seconds", "runs"), [(tasks.LONG_RUN_SECONDS - 1, 0), (tasks.LONG_RUN_SECONDS, 1)])
def test_what_became_due_during_a_run_waits_for_the_next_minute_only_where_the_run_was_short(
    world: World, clock: list[float], woken: list[dict[str, Any]], now: datetime, seconds: float, runs: int
) -> None:
    world.connect(User.objects.create_user("late"), now=now)

    def takes_its_time() -> None:
        clock[0] += seconds

    world.authorization_server.before_token_answer = takes_its_time
    assert tasks.refresh_due_tokens() == {"refreshed": 1, "failed": 0}
    assert len(woken) == runs


def test_of_runs_that_overlap_one_wakes_the_next_so_that_they_become_no_more_from_minute_to_minute(
    clock: list[float], woken: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def takes_its_time(**_: object) -> dict[str, int]:
        clock[0] += tasks.LONG_RUN_SECONDS
        return {}

    def is_overtaken(**_: object) -> dict[str, int]:
        monkeypatch.setattr(tasks, "refresh_due", takes_its_time)
        tasks.refresh_due_tokens()
        assert woken == []
        return {}

    monkeypatch.setattr(tasks, "refresh_due", is_overtaken)
    tasks.refresh_due_tokens()
    assert len(woken) == 1
    tasks.refresh_due_tokens()
    assert len(woken) == 2


def test_where_no_file_can_be_made_beat_alone_wakes_runs(
    clock: list[float], woken: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(tasks, "refresh_due", lambda **_: clock.__setitem__(0, clock[0] + tasks.RUN_SECONDS))
    settings.DATA_DIR = "/nowhere"
    tasks.refresh_due_tokens()
    assert woken == []


def test_a_broker_that_is_away_when_the_next_run_should_be_woken_does_no_harm(
    world: World, many: list[Connection], clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_away(**options: object) -> None:
        raise BrokerError

    def takes_its_time() -> None:
        clock[0] += tasks.RUN_SECONDS

    monkeypatch.setattr(tasks.refresh_due_tokens, "apply_async", is_away)
    world.authorization_server.before_token_answer = takes_its_time
    assert tasks.refresh_due_tokens() == {"refreshed": AT_ONCE, "failed": 0}


def test_the_limit_of_the_task_leaves_time_for_the_last_answer(settings: Settings) -> None:
    """What is claimed last is sent within the lease, answered within the deadline, and written for two minutes."""
    last = configuration().lease_wait_seconds + configuration().lease_seconds + 120
    assert Limits.REFRESH.total_seconds < configuration().lease_seconds <= tasks.LAST_ANSWER_SECONDS
    assert tasks.RUN_SECONDS + last <= tasks.refresh_due_tokens.soft_time_limit < tasks.refresh_due_tokens.time_limit


def test_a_worker_that_is_told_to_stop_claims_nothing_more_in_any_of_its_processes(
    world: World, many: list[Connection], woken: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    monkeypatch.setattr(tasks, "by_database", lambda read: now + DUE)
    monkeypatch.setattr(tasks, "LONG_RUN_SECONDS", 0.0)
    reading, writing = os.pipe()
    tells_child, told = os.pipe()
    child = os.fork()
    if not child:  # a process of the pool
        os.read(tells_child, 1)
        os.write(writing, b"stops" if tasks.is_stopping() else b"goes on")
        os._exit(0)
    try:
        world.authorization_server.before_token_answer = tasks.stop_watches
        done = tasks.refresh_due_tokens()
    finally:
        os.write(told, b".")
        os.waitpid(child, 0)
        said = os.read(reading, 10)
        for end in (reading, writing, tells_child, told):
            os.close(end)
        tasks._told[0] = False
        tasks._stopping.clear()
    assert (done, said) == ({"refreshed": AT_ONCE, "failed": 0}, b"stops")
    assert (untouched(), woken) == (len(many) - AT_ONCE, [])


def test_the_watches_are_told_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def a_long_run(*, now: datetime, go_on: Any) -> None:
        while go_on():
            time.sleep(0.01)
        time.sleep(0.2)  # the last answers
        asked.append(go_on())

    monkeypatch.setattr("oauthflow.flows.refresh.watch.recover_abandoned", a_long_run)
    monkeypatch.setattr("oauthflow.flows.refresh.watch.replay_spool", lambda: 0)
    monkeypatch.setattr("oauthflow.flows.refresh.watch.by_database", lambda read: read)
    try:
        watching.begin(watch_for_the_dead, name="refresh-watch", stop=tasks._stopping)
        tasks.stop_watches()
        tasks.await_watches()
        assert asked == [False]
    finally:
        tasks._told[0] = False
        tasks._stopping.clear()


def test_an_answer_that_we_fail_at_costs_no_other_that_came_with_it(
    world: World, many: list[Connection], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = batch.read_answer
    bad = many[1].pk

    def fails_at_one(attempt: Any, response: Any) -> Any:
        return 1 / 0 if attempt.token_set.connection_id == bad else read(attempt, response)

    monkeypatch.setattr(batch, "read_answer", fails_at_one)
    assert refresh_due(now=now + DUE) == {"refreshed": len(many) - 1, "failed": 1}
    assert renewed() == len(many) - 1
    row = TokenSet.objects.get(connection=bad)
    assert (row.refresh_failures, row.lease_owner) == (1, "")
    assert Connection.objects.get(pk=bad).status == "degraded"


def test_a_database_that_fails_in_between_stops_the_claiming_and_costs_no_answer(
    world: World, many: list[Connection], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = [OperationalError()]

    def seen(*args: object, **kwargs: object) -> bool:
        if failing:
            raise failing.pop()
        return False

    monkeypatch.setattr(batch.Queues, "succeeded", seen)
    monkeypatch.setattr(batch, "_FLUSH_SECONDS", 0)
    assert refresh_due(now=now + DUE) == {"refreshed": AT_ONCE, "failed": 0}
    assert (renewed(), untouched()) == (AT_ONCE, len(many) - AT_ONCE)
