"""A worker does beat's most urgent work while beat is silent, and only then."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.utils import timezone
from prometheus_client import REGISTRY
from pytest_django import Settings
from structlog.testing import capture_logs

from audit.correlation import correlation_id
from connections.models import TokenSet
from mcp_oauth_site.observability import heartbeat
from mcp_oauth_site.stand_in import StandIn, stand_in_for_beat
from oauthflow.flows.watching import watch
from tests.fakes.world import World
from tests.faults import fault


@pytest.fixture(autouse=True)
def started_long_ago(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(heartbeat, "_started_at", float("-inf"))
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def due(world: World, alice: User) -> TokenSet:
    return TokenSet.objects.get(connection=world.connect(alice, now=timezone.now() - timedelta(minutes=50)))


@fault("F06")
def test_while_beat_is_heard_nothing_is_done(due: TokenSet) -> None:
    heartbeat.note_beat()
    with capture_logs() as lines:
        StandIn().look()
    due.refresh_from_db()
    assert (due.generation, lines) == (1, [])


@fault("F06")
def test_while_beat_is_silent_what_is_due_is_renewed_and_the_alarm_is_given_once(due: TokenSet) -> None:
    worker, before = StandIn(), _runs()
    with capture_logs() as lines:
        worker.look()
        worker.look()
        due.refresh_from_db()
        assert due.generation == 2
        heartbeat.note_beat()
        worker.look()
    assert [line["log_level"] for line in lines if line.get("name") == "beat"] == ["error", "info"]
    assert _runs() - before == 2


@fault("F06")
def test_a_look_that_fails_does_not_end_the_looking(
    db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, looks, goes_on = threading.Event(), [], []

    def look(self: StandIn, *, go_on: Callable[[], bool]) -> None:
        looks.append(self)
        if len(looks) == 3:
            stop.set()
        goes_on.append(go_on())
        raise OSError

    monkeypatch.setattr(StandIn, "look", look)
    settings.BEAT_SILENT_SECONDS = 0.0
    stand_in_for_beat(stop)
    assert (len(looks), goes_on) == (3, [True, True, False])


def _watched(look: Callable[[], object], stop: threading.Event) -> None:
    watch(look, name="anything", every=0.0, stop=stop)


@pytest.mark.parametrize("looking", [_watched, lambda look, stop: stand_in_for_beat(stop)])
def test_each_look_of_a_worker_has_an_id_of_its_own(
    looking: Callable[..., None], db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, ids = threading.Event(), []

    def look(*args: object, **kwargs: object) -> None:
        ids.append(correlation_id())
        if len(ids) == 3:
            stop.set()

    monkeypatch.setattr(StandIn, "look", look)
    settings.BEAT_SILENT_SECONDS = 0.0
    looking(look, stop)
    assert len(set(ids)) == 3


def _runs() -> float:
    return REGISTRY.get_sample_value("mcp_oauth_stand_in_runs_total") or 0.0
