"""An answer lost with its connection: the server may have replaced the token, and may forgive for seconds. R4."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User

from connections.models import Connection, TokenSet
from oauthflow.flows.refresh import batch, failure, refresh_connection, single
from oauthflow.flows.refresh.attempt import Attempt
from oauthflow.flows.refresh.recovery import recover_abandoned
from oauthflow.flows.refresh.replay import replay_spool
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.protocol.errors import AnswerLostError, IssuerChangedError
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.faults import fault

Lose = Callable[[Connection, datetime], None]


@pytest.fixture
def connection(world: World, alice: User, now: datetime) -> Connection:
    return world.connect(alice, now=now)


@pytest.fixture(params=["run", "caller"])
def lose(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Lose:
    """Refresh, and lose the answer: the connection ends before it comes."""

    def lost(attempt: Attempt, response: object) -> None:
        raise AnswerLostError

    def refresh(connection: Connection, now: datetime) -> None:
        with monkeypatch.context() as cut:
            cut.setattr(batch if request.param == "run" else single, "read_answer", lost)
            if request.param == "run":
                assert refresh_due(now=now + timedelta(hours=1)) == {"refreshed": 0, "failed": 1}
                return
            with pytest.raises(AnswerLostError):
                refresh_connection(connection, now=now, trigger="use")

    return refresh


def test_a_token_whose_answer_was_lost_is_sent_again_once_within_seconds(
    world: World, connection: Connection, now: datetime, lose: Lose
) -> None:
    forgiven = dict(world.authorization_server.refresh_tokens)
    lose(connection, now)
    world.authorization_server.refresh_tokens.update(forgiven)

    assert recover_abandoned(now=now) == batch.Outcome(refreshed=1)
    assert (TokenSet.objects.get().generation, Connection.objects.get().status) == (2, "active")
    assert len(world.authorization_server.refresh_requests) == 2


def test_a_token_refused_after_its_answer_was_lost_is_called_lost(
    world: World, connection: Connection, now: datetime, lose: Lose
) -> None:
    lose(connection, now)
    world.authorization_server.refresh_answer = Answer(400, {"error": "invalid_grant"})
    assert recover_abandoned(now=now) == batch.Outcome(failed=1)
    found = Connection.objects.get()
    assert (found.status, found.reason) == ("reauth_required", "refresh_outcome_lost")


def test_an_answer_lost_for_the_second_time_costs_a_pause(
    world: World, connection: Connection, now: datetime, lose: Lose, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(connection, now)

    def lost(attempt: Attempt, response: object) -> None:
        raise AnswerLostError

    monkeypatch.setattr(batch, "read_answer", lost)
    assert recover_abandoned(now=now) == batch.Outcome(failed=1)
    assert recover_abandoned(now=now) == batch.Outcome()
    row = TokenSet.objects.get()
    assert row.next_attempt_at is not None
    assert (row.lease_owner, row.next_attempt_at > now, Connection.objects.get().status) == ("", True, "degraded")
    assert len(world.authorization_server.refresh_requests) == 2


def test_of_an_issuer_in_trouble_nothing_is_sent_again_at_once(
    world: World, connection: Connection, now: datetime, lose: Lose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure, "is_held_back", lambda token_set, *, now: True)
    lose(connection, now)
    assert recover_abandoned(now=now) == batch.Outcome()
    assert len(world.authorization_server.refresh_requests) == 1


@pytest.fixture(params=["run", "caller"])
def overtaken(request: pytest.FixtureRequest, world: World, now: datetime) -> Callable[[Connection, str], None]:
    """Refresh for so long that somebody else, who cannot see our spool, takes over; it is refused or still waits."""

    def refresh(connection: Connection, other: str) -> None:
        def take_over() -> None:
            TokenSet.objects.update(lease_owner=other, lease_expires_at=now + timedelta(days=9000) if other else None)
            if not other:
                Connection.objects.update(status="reauth_required", reason=failure.OUTCOME_LOST)

        world.authorization_server.before_token_answer = take_over
        if request.param == "run":
            refresh_due(now=now + timedelta(hours=1))
        else:
            refresh_connection(connection, now=now, trigger="use")

    return refresh


@fault("F03")
def test_a_late_answer_counts_where_whoever_took_over_was_refused(
    connection: Connection, overtaken: Callable[[Connection, str], None]
) -> None:
    overtaken(connection, "")
    assert (TokenSet.objects.get().generation, Connection.objects.get().status) == (2, "active")


@fault("F03")
def test_a_late_answer_stays_on_the_disk_until_whoever_took_over_is_done(
    connection: Connection, overtaken: Callable[[Connection, str], None]
) -> None:
    overtaken(connection, "0123456789abcdef-0123456789ab-1")
    assert replay_spool() == 0
    assert TokenSet.objects.get().generation == 1
    TokenSet.objects.update(lease_owner="", lease_expires_at=None)
    Connection.objects.update(status="reauth_required", reason=failure.OUTCOME_LOST)
    assert replay_spool() == 1
    assert (TokenSet.objects.get().generation, Connection.objects.get().status) == (2, "active")


@fault("F03")
def test_a_late_answer_stays_on_the_disk_while_an_administrator_is_asked(
    world: World, connection: Connection, now: datetime
) -> None:
    def move() -> None:  # and whoever took over was refused
        TokenSet.objects.update(lease_owner="", lease_expires_at=None)
        Connection.objects.update(status="issuer_changed", reason="issuer_changed")

    world.authorization_server.before_token_answer = move
    with pytest.raises(IssuerChangedError):
        refresh_connection(connection, now=now, trigger="use")
    assert (replay_spool(), TokenSet.objects.get().generation) == (0, 1)
    Connection.objects.update(status="active", reason="")  # it names the old service again
    assert (replay_spool(), TokenSet.objects.get().generation) == (1, 2)
