"""Somebody connects in the evening; in the morning everything works, whatever the night was like."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User

from audit.models import AuditRecord
from connections.models import TokenSet
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.protocol.errors import AuthorizationRequiredError
from oauthflow.status import connection_status
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.requirements import requirement


def minutes(start: datetime, *, hours: int) -> list[datetime]:
    return [start + timedelta(minutes=minute) for minute in range(0, hours * 60, 5)]


@requirement("X-12", "X-13")
def test_the_background_keeps_a_connection_alive_all_night(world: World, alice: User, now: datetime) -> None:
    connection = world.connect(alice, now=now)

    outcomes = [refresh_due(now=moment) for moment in minutes(now, hours=12)]

    assert sum(outcome["failed"] for outcome in outcomes) == 0
    # Each hour-long token is renewed 15 minutes before its end: at least every 45 minutes.
    assert len(world.authorization_server.refresh_requests) == sum(outcome["refreshed"] for outcome in outcomes) == 15
    asked = len(world.authorization_server.refresh_requests)
    morning = now + timedelta(hours=12)
    assert usable_access_token(connection, now=morning).expires_at > morning
    assert len(world.authorization_server.refresh_requests) == asked


@requirement("X-12")
def test_an_outage_of_a_night_costs_nobody_a_login(world: World, alice: User, bob: User, now: datetime) -> None:
    connections = [world.connect(user, now=now) for user in (alice, bob)]
    world.authorization_server.refresh_answer = Answer(503)

    for moment in minutes(now, hours=8):
        refresh_due(now=moment)

    # At first often, then after pauses drawn between half a minute and an hour: about twenty each, of which ten more
    # would be odd.
    assert len(world.authorization_server.refresh_requests) <= 2 * 30
    for connection in connections:
        connection.refresh_from_db()
        assert connection.status == "degraded"
    assert not AuditRecord.objects.filter(event="reauthorization.required").exists()
    world.authorization_server.refresh_answer = None
    morning = now + timedelta(hours=10)
    assert refresh_due(now=morning) == {"refreshed": 2, "failed": 0}
    for connection in connections:
        connection.refresh_from_db()
        assert connection.status == "active"


def test_a_night_without_background_work_is_made_up_for_at_the_first_call(
    world: World, alice: User, now: datetime
) -> None:
    connection = world.connect(alice, now=now)
    morning = now + timedelta(hours=12)
    status = connection_status(connection, now=morning)
    assert (status.is_access_token_expired, status.has_valid_tokens) == (True, True)

    assert usable_access_token(connection, now=morning).expires_at == morning + timedelta(hours=1)
    assert TokenSet.objects.get().generation == 2


@requirement("X-12")
def test_a_grant_that_was_withdrawn_at_night_asks_for_its_owner_in_the_morning(
    world: World, alice: User, bob: User, now: datetime
) -> None:
    connection, other = world.connect(alice, now=now), world.connect(bob, now=now)
    mine = TokenSet.objects.get(connection=connection).refresh_token_sealed.reveal().reveal()
    world.authorization_server.refresh_tokens.pop(mine)

    for moment in minutes(now, hours=8):
        refresh_due(now=moment)

    with pytest.raises(AuthorizationRequiredError):
        usable_access_token(connection, now=now + timedelta(hours=8))
    status = connection_status(connection, now=now + timedelta(hours=8))
    assert (status.requires_reauthorization, status.reauthorization_reason) == (True, "invalid_grant")
    assert [one["refresh_token"] for one in world.authorization_server.refresh_requests].count(mine) == 1
    other.refresh_from_db()
    assert other.status == "active"
    assert world.connect(alice, now=now + timedelta(hours=8)).status == "active"
