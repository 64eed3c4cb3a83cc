"""A row that we ourselves fail at is put aside, and the others go on. Fault F24."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User

from connections.models import Connection, TokenSet
from oauthflow.egress import Answer as Sent
from oauthflow.flows.refresh import batch, single
from oauthflow.flows.refresh.attempt import Attempt
from oauthflow.flows.refresh_due import refresh_due, refresh_due_in_turn
from oauthflow.protocol.token_endpoint import TokenResponse
from tests.fakes.world import World
from tests.faults import fault


@fault("F24")
def test_a_poison_row_is_put_aside_after_five_tries_and_the_others_go_on(
    world: World, alice: User, bob: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = world.connect(alice, now=now), world.connect(bob, now=now)
    made = batch.request_of

    def poisoned(row: TokenSet, *, now: datetime) -> object:
        return made(row, now=now) if row.connection_id == good.pk else 1 / 0

    monkeypatch.setattr(batch, "request_of", poisoned)
    moment = now
    for tries in range(5):
        TokenSet.objects.update(refresh_due_at=now, next_attempt_at=None)
        assert refresh_due(now=moment) == {"refreshed": 1, "failed": 1}, tries
    bad.refresh_from_db()
    assert (bad.status, bad.reason) == ("degraded", "refresh_quarantined")


@fault("F23", "F24")
def test_a_poison_row_that_is_deleted_meanwhile_takes_no_answer_of_the_others_along(
    world: World, alice: User, bob: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = world.connect(alice, now=now), world.connect(bob, now=now)
    judged = batch._judged

    def poisoned(attempt: Attempt, answer: Sent) -> TokenResponse:
        if attempt.token_set.connection_id == good.pk:
            return judged(attempt, answer)
        Connection.objects.get(pk=bad.pk).delete()
        raise ZeroDivisionError

    monkeypatch.setattr(batch, "_judged", poisoned)
    monkeypatch.setattr(batch._Run, "_at_hand", lambda run: list(filter(None, [run._sender.next(seconds=0.0)])))
    assert refresh_due(now=now + timedelta(hours=1)) == {"refreshed": 1, "failed": 1}
    assert TokenSet.objects.get().generation == 2


@fault("F24")
def test_one_after_the_other_a_poison_row_is_put_aside_too(
    world: World, alice: User, bob: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = world.connect(alice, now=now), world.connect(bob, now=now)
    TokenSet.objects.filter(connection=bad).update(expires_at=now)  # the first to be tried
    made = single.request_of

    def poisoned(row: TokenSet, *, now: datetime) -> object:
        return made(row, now=now) if row.connection_id == good.pk else 1 / 0

    monkeypatch.setattr(single, "request_of", poisoned)
    for tries in range(5):
        TokenSet.objects.update(refresh_due_at=now, next_attempt_at=None)
        assert refresh_due_in_turn(now=now) == {"refreshed": 1, "failed": 1}, tries
    bad.refresh_from_db()
    assert (bad.status, bad.reason) == ("degraded", "refresh_quarantined")
    assert refresh_due_in_turn(now=now + timedelta(minutes=50)) == {"refreshed": 1, "failed": 0}
