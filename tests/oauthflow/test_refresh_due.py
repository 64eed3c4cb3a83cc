"""The background renews what ends soon, and one bad row does not stop the others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test.utils import CaptureQueriesContext

from connections.models import ClientRegistration, Connection, McpServer, TokenSet
from connections.sealing import Ciphertext
from oauthflow.flows import refresh_due as refresh_due_module
from oauthflow.flows.refresh import batch
from oauthflow.flows.refresh.batch import Outcome, refresh_many
from oauthflow.flows.refresh_due import refresh_due, refresh_in_turn
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.faults import fault


@pytest.mark.parametrize(
    ("lifetime", "due_after"),
    [(3600, 2700), (86_400, 64_800), (1200, 600), (60, 30)],
)
def test_tokens_are_renewed_in_the_last_quarter_of_their_life(
    world: World, alice: User, now: datetime, lifetime: int, due_after: int
) -> None:
    world.authorization_server.expires_in = lifetime
    world.connect(alice, now=now)

    assert refresh_due(now=now + timedelta(seconds=due_after - 1)) == {"refreshed": 0, "failed": 0}
    assert refresh_due(now=now + timedelta(seconds=due_after)) == {"refreshed": 1, "failed": 0}
    assert refresh_due(now=now + timedelta(seconds=due_after)) == {"refreshed": 0, "failed": 0}


@pytest.mark.parametrize("lifetime", [0, -1, 1, "0"])
def test_with_next_to_no_life_a_token_is_renewed_twice_a_minute_at_most(
    world: World, alice: User, now: datetime, lifetime: object
) -> None:
    world.authorization_server.expires_in = lifetime
    world.connect(alice, now=now)

    for seconds in range(0, 90, 5):  # each run begins right after the one before
        refresh_due(now=now + timedelta(seconds=seconds))
    assert len(world.authorization_server.refresh_requests) == 2


def test_what_cannot_be_renewed_is_never_due(world: World, alice: User, now: datetime) -> None:
    world.authorization_server.token_overrides = {"refresh_token": None}
    world.connect(alice, now=now)

    assert refresh_due(now=now + timedelta(days=3)) == {"refreshed": 0, "failed": 0}


@pytest.mark.parametrize("is_old", [False, True])
def test_without_a_lifetime_a_refresh_token_is_used_once_a_day(
    world: World, alice: User, now: datetime, is_old: bool
) -> None:
    world.authorization_server.token_overrides = {"expires_in": None}
    world.connect(alice, now=now)
    if is_old:  # as the release before stored it
        TokenSet.objects.update(refresh_due_at=None)
    a_day = timedelta(days=1)

    assert refresh_due(now=now + a_day - timedelta(seconds=1)) == {"refreshed": 0, "failed": 0}
    assert refresh_due(now=now + a_day) == {"refreshed": 1, "failed": 0}
    assert refresh_due(now=now + 2 * a_day - timedelta(seconds=1)) == {"refreshed": 0, "failed": 0}
    assert refresh_due(now=now + 2 * a_day) == {"refreshed": 1, "failed": 0}


def test_what_has_an_end_comes_before_what_has_none(
    world: World, alice: User, bob: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless, urgent = world.connect(alice, now=now), world.connect(bob, now=now)
    TokenSet.objects.filter(connection=endless).update(expires_at=None)
    monkeypatch.setattr(refresh_due_module, "MOST_AT_A_TIME", 1)

    refresh_due(now=now + timedelta(days=1))
    assert TokenSet.objects.get(generation=2).connection == urgent


@fault("F24")
def test_a_row_that_does_not_open_and_a_refused_one_do_not_stop_the_others(
    world: World, alice: User, bob: User, administrator: User, now: datetime
) -> None:
    damaged, refused, good = (world.connect(user, now=now) for user in (alice, bob, administrator))
    TokenSet.objects.filter(connection=damaged).update(refresh_token_sealed=Ciphertext("gibberish"))
    first, second = (TokenSet.objects.get(connection=one) for one in (damaged, refused))
    assert first.expires_at == second.expires_at
    world.authorization_server.refresh_tokens.pop(second.refresh_token_sealed.reveal().reveal())

    assert refresh_due(now=now + timedelta(seconds=3000)) == {"refreshed": 1, "failed": 2}
    statuses = [Connection.objects.get(pk=one.pk).status for one in (damaged, refused, good)]
    assert statuses == ["key_unavailable", "reauth_required", "active"]
    assert refresh_due(now=now + timedelta(seconds=3001)) == {"refreshed": 0, "failed": 0}


def test_in_the_pause_after_a_failure_nothing_is_due(world: World, alice: User, now: datetime) -> None:
    world.connect(alice, now=now)
    world.authorization_server.refresh_answer = Answer(503, "", {"Retry-After": "300"})
    due = now + timedelta(seconds=2700)

    assert refresh_due(now=due) == {"refreshed": 0, "failed": 1}
    assert refresh_due(now=due + timedelta(seconds=299)) == {"refreshed": 0, "failed": 0}
    world.authorization_server.refresh_answer = None
    assert refresh_due(now=due + timedelta(seconds=300)) == {"refreshed": 1, "failed": 0}


@fault("F06")
@pytest.mark.parametrize("answer", [None, Answer(503), Answer(400, {"error": "invalid_grant"})])
def test_what_another_run_with_the_same_list_was_done_with_is_left_alone(
    world: World, alice: User, now: datetime, answer: Answer | None
) -> None:
    world.connect(alice, now=now)
    world.authorization_server.refresh_answer = answer
    rows = list(TokenSet.objects.values_list("pk", "issuer"))
    due = now + timedelta(seconds=2700)

    refresh_many(rows, now=due)
    assert refresh_many(rows, now=due) == Outcome()
    assert len(world.authorization_server.refresh_requests) == 1


@fault("F06")
def test_one_after_the_other_what_another_run_renewed_meanwhile_is_not_renewed_again(
    world: World, alice: User, bob: User, now: datetime
) -> None:
    first, second = sorted((world.connect(alice, now=now), world.connect(bob, now=now)), key=lambda one: one.pk)
    due = now + timedelta(seconds=2700)

    def another_run() -> None:
        world.authorization_server.before_token_answer = None
        refresh_in_turn(Connection.objects.due_for_refresh(now=due).filter(pk=second.pk), now=due)

    world.authorization_server.before_token_answer = another_run
    both = Connection.objects.due_for_refresh(now=due).order_by("pk")
    assert refresh_in_turn(both, now=due) == {"refreshed": 1, "failed": 0}
    assert set(TokenSet.objects.values_list("generation", flat=True)) == {2}
    assert len(world.authorization_server.refresh_requests) == 2


def test_a_connection_that_was_stopped_after_the_list_was_made_is_left_alone(
    world: World, alice: User, now: datetime
) -> None:
    world.connect(alice, now=now)
    rows = list(TokenSet.objects.values_list("pk", "issuer"))
    Connection.objects.update(status="issuer_changed")

    assert refresh_many(rows, now=now + timedelta(seconds=2700)) == Outcome()
    assert world.authorization_server.refresh_requests == []


@fault("F23")
@pytest.mark.parametrize("kind", [McpServer, ClientRegistration])
def test_what_is_deleted_while_a_batch_reads_stops_no_other(
    world: World, alice: User, bob: User, now: datetime, monkeypatch: pytest.MonkeyPatch, kind: type[Model]
) -> None:
    kept, gone = world.connect(alice, now=now), world.connect(bob, now=now, slug="other")
    whose = gone.server if kind is McpServer else ClientRegistration.objects.get(server=gone.server)
    rows, read = list(TokenSet.objects.values_list("pk", "issuer")), batch._connections

    def meanwhile(ids: Iterable[UUID]) -> dict[UUID, Connection]:
        found = read(ids)
        whose.delete()
        return found

    monkeypatch.setattr(batch, "_connections", meanwhile)
    assert refresh_many(rows, now=now + timedelta(hours=1)) == Outcome(refreshed=1)
    assert TokenSet.objects.get(generation=2).connection == kept


def test_a_batch_reads_by_the_ids_of_its_rows_alone(world: World, alice: User, now: datetime) -> None:
    """Of few rows at one issuer there are many reads; each would go through everything that is active."""
    world.connect(alice, now=now)
    rows = list(TokenSet.objects.values_list("pk", "issuer"))
    with CaptureQueriesContext(connection) as asked:
        assert refresh_many(rows, now=now + timedelta(seconds=2700)) == Outcome(refreshed=1)

    told = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    reads = [one["sql"] for one in asked if re.match(r'SELECT "connections_(tokenset|connection)"', one["sql"])]
    assert len(reads) == 2
    for read in reads:
        with connection.cursor() as cursor:
            cursor.execute(f"{told} {read}")
            plan = str(cursor.fetchall())
        assert "connections_connection_status" not in plan
        assert "JOIN" not in read
        assert connection.vendor != "sqlite" or "SCAN connections_" not in plan, plan


def test_a_batch_of_many_asks_the_database_as_often_as_one_of_few(world: World, now: datetime) -> None:
    people = [User.objects.create_user(f"person{number}") for number in range(12)]
    for person in people:
        world.connect(person, now=now)
    counts = []
    for chosen in (people[:2], people[2:]):
        Connection.objects.update(status="pending")
        Connection.objects.filter(user__in=chosen).update(status="active")
        with CaptureQueriesContext(connection) as asked:
            assert refresh_due(now=now + timedelta(seconds=3000)) == {"refreshed": len(chosen), "failed": 0}
        counts.append(len(asked))

    assert counts[1] - counts[0] < len(people) - 4  # a query for each row would be so many more
