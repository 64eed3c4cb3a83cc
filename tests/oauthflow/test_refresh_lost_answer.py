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
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.protocol.errors import AnswerLostError
from tests.fakes.internet import Answer
from tests.fakes.world import World

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
