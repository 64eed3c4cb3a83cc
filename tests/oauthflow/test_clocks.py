"""A machine whose clock is wrong stores tokens by the database's. F19."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from connections import database_time
from connections.models import Connection, TokenSet
from oauthflow.flows.connect_unattended import connect_unattended
from oauthflow.flows.report_challenge import report_challenge
from oauthflow.graphql import mutations
from oauthflow.protocol.secret import Secret
from tests.fakes.world import World
from tests.faults import fault
from tests.rest_clients import in_browser

pytestmark = fault("F19")

AHEAD = timedelta(minutes=5)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is ahead of the database."""
    monkeypatch.setattr(database_time._Offset, "measured", lambda _: -AHEAD)


def lives() -> tuple[datetime, datetime]:
    row = TokenSet.objects.get()
    assert row.expires_at is not None
    return row.obtained_at, row.expires_at - timedelta(hours=1)


def test_a_sign_in(world: World, alice: User, now: datetime, ahead: None) -> None:
    world.connect(alice, now=now)
    assert lives() == (now - AHEAD, now - AHEAD)


def test_a_connection_without_a_person(world: World, alice: User, now: datetime, ahead: None) -> None:
    world.authorization_server.grant_types = ["client_credentials"]
    world.server(grant_type="client_credentials", client_id="robot", client_secret_sealed=Secret("s"))
    connect_unattended(world.connection(alice), actor=alice, now=now)
    assert lives() == (now - AHEAD, now - AHEAD)


def by_page(connection: Connection, user: User) -> None:
    client = Client()
    client.force_login(user)
    assert client.post(f"/connections/{connection.pk}/refresh").status_code == 303


def by_rest(connection: Connection, user: User) -> None:
    assert in_browser(user).post(f"/api/v1/connections/{connection.pk}/refresh").status_code == 200


def by_command(connection: Connection, user: User) -> None:
    call_command("refresh", str(connection.pk))


def by_graphql(connection: Connection, user: User) -> None:
    mutations._refresh(user, {"connection_id": str(connection.pk)}, timezone.now())


def by_challenge(connection: Connection, user: User) -> None:
    report_challenge(connection, user=user, status=401, www_authenticate="Bearer", now=timezone.now())


@pytest.mark.parametrize("renew", [by_page, by_rest, by_command, by_graphql, by_challenge])
def test_a_renewal_that_somebody_asks_for(
    world: World, alice: User, now: datetime, ahead: None, renew: Callable[[Connection, User], None]
) -> None:
    connection = world.connect(alice, now=now)
    renew(connection, alice)
    assert TokenSet.objects.get().generation == 2
    assert all(abs(timezone.now() - AHEAD - at) < timedelta(minutes=1) for at in lives())
