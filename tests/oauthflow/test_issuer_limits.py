"""How much one issuer is asked at a time: by all processes together, by one run, and after trouble. R6."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.db.models.functions import Now
from pytest_django import Settings

from connections.leases import IN_FLIGHT_PER_ISSUER, Claim, claim_many
from connections.models import Connection, TokenSet
from oauthflow.flows.refresh import owners, refresh_connection
from oauthflow.flows.refresh import pace as pacing
from oauthflow.flows.refresh.health import RAMP, Way
from oauthflow.flows.refresh.pace import AT_ONCE, PER_SECOND, Pace
from oauthflow.flows.refresh.queues import KEPT_FREE
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.models import IssuerHealth
from oauthflow.protocol.errors import ResponseTimeoutError
from tests.chaos.grants import make_grants
from tests.fakes.crowd import all_at_once
from tests.fakes.internet import Answer
from tests.fakes.world import World

DEAD = "fedcba9876543210-000000000000-0"
DUE = timedelta(seconds=3000)


@pytest.fixture
def many(world: World, now: datetime) -> list[Connection]:
    people = [User.objects.create_user(f"user{number}") for number in range(30)]
    return [world.connect(person, now=now) for person in people]


def occupy(count: int, *, owner: str = "") -> list[Any]:
    """Lease so many rows, as somebody else alive would; return their ids."""
    taken = list(TokenSet.objects.order_by("pk").values_list("pk", flat=True)[:count])
    TokenSet.objects.filter(pk__in=taken).update(
        lease_owner=owner or owners.new_owner(), lease_expires_at=Now() + timedelta(seconds=60)
    )
    return taken


def claims(new_owner: str, dead_owner: str = "-") -> list[Claim]:
    return [Claim(row, new_owner, dead_owner) for row in TokenSet.objects.order_by("pk")]


@pytest.mark.django_db(transaction=True)
def test_whoever_claims_at_the_same_time_there_are_never_more_than_twenty(now: datetime) -> None:
    make_grants("http://127.0.0.1:9", [f"n{number}" for number in range(60)], now=now)
    rows = list(TokenSet.objects.order_by("pk"))
    parts = [rows[start : start + 10] for start in range(0, 60, 10)]

    def claim() -> int:
        part = parts.pop()
        return len(claim_many([Claim(row, f"new{len(parts)}") for row in part], seconds=60).taken)

    assert sum(all_at_once(6, claim)) == IN_FLIGHT_PER_ISSUER
    assert TokenSet.objects.filter(lease_expires_at__gt=Now()).count() == IN_FLIGHT_PER_ISSUER


def test_what_one_issuer_is_asked_is_no_matter_of_another(db: None, now: datetime) -> None:
    make_grants("http://127.0.0.1:9", [f"n{number}" for number in range(60)], now=now, issuers=2)
    claimed = claim_many(claims("new"), seconds=60)
    assert (len(claimed.taken), len(claimed.crowded)) == (40, 20)


def test_leases_of_the_dead_and_leases_that_ended_take_no_room(db: None, now: datetime) -> None:
    make_grants("http://127.0.0.1:9", [f"n{number}" for number in range(30)], now=now)
    occupy(20, owner=DEAD)
    assert claim_many(claims("new"), seconds=60).taken == set()
    assert len(claim_many(claims("new", DEAD), seconds=60).taken) == 20
    TokenSet.objects.update(lease_expires_at=Now())
    assert len(claim_many(claims("newer"), seconds=60).taken) == 20


def test_the_background_leaves_room_for_who_waits(world: World, many: list[Connection], now: datetime) -> None:
    busy = occupy(IN_FLIGHT_PER_ISSUER - KEPT_FREE)
    (free, *_) = Connection.objects.exclude(tokens__in=busy)

    assert refresh_due(now=now + DUE) == {"refreshed": 0, "failed": 0}
    assert refresh_connection(free, now=now + DUE, trigger="use").status == "active"
    assert len(world.authorization_server.refresh_requests) == 1


def test_a_run_waits_for_room_that_its_own_requests_make(world: World, many: list[Connection], now: datetime) -> None:
    busy = occupy(IN_FLIGHT_PER_ISSUER - KEPT_FREE - 1)

    assert refresh_due(now=now + DUE) == {"refreshed": 30 - len(busy), "failed": 0}


def test_a_caller_waits_for_room_and_not_for_ever(
    world: World, many: list[Connection], now: datetime, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    busy = occupy(IN_FLIGHT_PER_ISSUER)
    (free, *_) = Connection.objects.exclude(tokens__in=busy)

    def somebody_is_done(seconds: float) -> None:
        TokenSet.objects.filter(pk=busy[0]).update(lease_owner="", lease_expires_at=None)

    with monkeypatch.context() as patch:
        patch.setattr("oauthflow.flows.refresh.waiting.time.sleep", somebody_is_done)
        refresh_connection(free, now=now + DUE, trigger="use")
    assert len(world.authorization_server.refresh_requests) == 1

    occupy(IN_FLIGHT_PER_ISSUER)
    settings.MCP_OAUTH = {"lease_wait_seconds": 0}
    (free, *_) = Connection.objects.filter(tokens__lease_owner="")
    with pytest.raises(ResponseTimeoutError):
        refresh_connection(free, now=now + DUE, trigger="request")


def test_after_a_pause_the_way_widens_in_half_a_minute(now: datetime) -> None:
    way = Way(reopened_at=now)
    widths = [way.width(now=now + RAMP * part / 10) for part in range(11)]
    assert (widths[0], widths[5], widths[9], widths[10]) == (1, 10, 18, 20)
    assert widths == sorted(widths)


def test_a_success_after_a_pause_is_where_the_way_begins_for_every_process(
    world: World, many: list[Connection], now: datetime
) -> None:
    world.authorization_server.refresh_answer = Answer(503)
    refresh_due(now=now + DUE)
    world.authorization_server.refresh_answer = None
    later = now + DUE + timedelta(seconds=60)
    refresh_connection(many[0], now=later, trigger="use")
    assert IssuerHealth.objects.get(client_id="").reopened_at == later

    TokenSet.objects.filter(pk__in=occupy(1)).update(refresh_due_at=None)
    # Another process has one request under way, and one is all there may be.
    assert refresh_due(now=later)["refreshed"] == 0
    assert refresh_due(now=later + RAMP)["refreshed"] > 20


def test_an_issuer_that_fails_now_and_then_is_not_paused_but_is_sent_few_requests_again(
    world: World, many: list[Connection], now: datetime
) -> None:
    server = world.authorization_server
    sent: list[int] = []

    def every_second_fails() -> None:
        sent.append(1)
        server.refresh_answer = Answer(503) if len(sent) % 2 else None

    server.before_token_answer = every_second_fails
    refresh_due(now=now + DUE)
    TokenSet.objects.filter(generation=1).update(next_attempt_at=None)
    failed = TokenSet.objects.filter(generation=1, refresh_failures__gt=0).count()
    assert failed > 5
    TokenSet.objects.filter(refresh_failures=0, generation=2).update(
        refresh_due_at=F("obtained_at"), expires_at=now + DUE + timedelta(days=1)
    )
    sent.clear()
    refresh_due(now=now + DUE)
    assert TokenSet.objects.filter(refresh_failures__gt=1).count() <= 3


def test_a_bucket_gives_a_burst_and_then_so_many_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [100.0]
    monkeypatch.setattr(pacing.time, "monotonic", lambda: moment[0])
    bucket = Pace()
    while bucket.room("a"):
        bucket.note_sent("a")
    assert (bucket.room("a"), bucket.room("b")) == (0, AT_ONCE)
    moment[0] += 0.5
    assert bucket.room("a") == PER_SECOND / 2
    moment[0] += 1000
    assert bucket.room("a") == AT_ONCE
