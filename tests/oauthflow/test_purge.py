"""What a sign-in that is over leaves behind, and for how long. Security note S05."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.auth.models import User

from oauthflow.flows.purge import purge_finished
from oauthflow.models import AuthorizationRequest
from tests.fakes.world import World


def test_a_late_request_loses_its_secrets_and_says_that_it_expired(world: World, alice: User, now: datetime) -> None:
    world.come_back(world.connection(alice), user=alice, now=now)
    assert purge_finished(now=now + timedelta(seconds=599)) == 0
    assert AuthorizationRequest.objects.get().status == "pending"

    assert purge_finished(now=now + timedelta(seconds=600)) == 0

    kept = AuthorizationRequest.objects.get()
    assert (kept.status, kept.error_code) == ("expired", "authorization_timeout")
    assert not kept.state_sealed
    assert not kept.code_verifier_sealed


def test_an_hour_after_their_end_requests_are_gone_and_connections_are_not(
    world: World, alice: User, now: datetime
) -> None:
    connection = world.connect(alice, now=now)
    end = now + timedelta(seconds=600)

    assert purge_finished(now=end + timedelta(seconds=3600)) == 0
    assert purge_finished(now=end + timedelta(seconds=3601)) == 1
    connection.refresh_from_db()
    assert connection.status == "active"


def test_a_poller_is_told_expired_before_anything_is_purged(world: World, alice: User, now: datetime) -> None:
    world.come_back(world.connection(alice), user=alice, now=now)
    request = AuthorizationRequest.objects.get()

    assert request.status_at(now + timedelta(seconds=599)) == "pending"
    assert request.status_at(now + timedelta(seconds=600)) == "expired"
