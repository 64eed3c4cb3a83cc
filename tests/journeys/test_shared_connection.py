"""One connection for everybody, made and ended by administrators; on some servers people may bring their own."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.contrib.auth.models import User

from connections.models import Connection
from connections.services import default_connection, shared_connection
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.protocol.errors import InvalidRequestError
from tests.fakes.world import World


def finish(world: World, connection: Connection, *, user: User, now: datetime) -> Connection:
    params, cookies = world.come_back(connection, user=user, now=now)
    return complete_authorization(params=params, user=user, cookies=cookies, now=now).connection


def test_everybody_uses_what_an_administrator_connected(
    world: World, alice: User, administrator: User, now: datetime
) -> None:
    server = world.server(connection_policy="shared")
    with pytest.raises(InvalidRequestError):
        world.connection(alice)
    shared = finish(world, world.connection(administrator), user=administrator, now=now)

    assert shared.user is None
    assert default_connection(alice, server) == shared
    assert usable_access_token(default_connection(alice, server), now=now).access_token
    assert Connection.objects.visible_to(alice).get() == shared


def test_ones_own_account_goes_before_the_shared_one(
    world: World, alice: User, bob: User, administrator: User, now: datetime
) -> None:
    server = world.server(connection_policy="shared_with_personal")
    shared = finish(world, shared_connection(server), user=administrator, now=now)
    own = finish(world, world.connection(alice), user=alice, now=now)

    assert default_connection(alice, server) == own
    assert default_connection(bob, server) == shared


def test_a_connection_that_was_never_finished_does_not_hide_the_shared_one(
    world: World, alice: User, administrator: User, now: datetime
) -> None:
    server = world.server(connection_policy="shared_with_personal")
    shared = finish(world, shared_connection(server), user=administrator, now=now)
    world.connection(alice)

    assert default_connection(alice, server) == shared


# Z07
def test_a_server_that_became_personal_lends_nobody_its_shared_connection(
    world: World, alice: User, administrator: User, now: datetime
) -> None:
    server = world.server(connection_policy="shared")
    finish(world, shared_connection(server), user=administrator, now=now)
    server.connection_policy = "personal"
    server.save()

    assert default_connection(alice, server) is None
    assert default_connection(administrator, server) is None
