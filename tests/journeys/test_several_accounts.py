"""One person, several accounts at one service; several persons, nothing in common."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.contrib.auth.models import User

from connections.models import Connection
from connections.services import default_connection
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.flows.revoke import revoke_connection
from oauthflow.protocol.errors import AuthorizationRequiredError
from tests.fakes.world import World
from tests.requirements import requirement


def connect_as(world: World, user: User, *, label: str, now: datetime) -> Connection:
    connection = world.connection(user, label=label)
    params, cookies = world.come_back(connection, user=user, now=now)
    return complete_authorization(params=params, user=user, cookies=cookies, now=now).connection


def test_two_accounts_of_one_person_have_tokens_of_their_own(world: World, alice: User, now: datetime) -> None:
    private, work = (connect_as(world, alice, label=label, now=now) for label in ("private", "work"))
    server = world.server()

    assert private.pk != work.pk
    tokens = [usable_access_token(one, now=now).access_token for one in (private, work)]
    assert tokens[0] != tokens[1]
    assert len(world.authorization_server.registrations) == 1
    assert default_connection(alice, server, label="work") == work
    assert default_connection(alice, server, label="other") is None

    revoke_connection(private, actor=alice, reason="", now=now)
    assert usable_access_token(work, now=now).access_token == tokens[1]
    assert default_connection(alice, server) == work


def test_two_sign_ins_in_two_tabs_do_not_disturb_each_other(world: World, alice: User, now: datetime) -> None:
    first = world.come_back(world.connection(alice, label="a"), user=alice, now=now)
    second = world.come_back(world.connection(alice, label="b"), user=alice, now=now)
    jar = first[1] | second[1]

    for params, _ in (second, first):
        complete_authorization(params=params, user=alice, cookies=jar, now=now)
    assert Connection.objects.filter(status="active").count() == 2


@requirement("H-02", "T-02")
def test_nobody_gets_the_token_of_somebody_else(world: World, alice: User, bob: User, now: datetime) -> None:
    connect_as(world, alice, label="", now=now)

    assert default_connection(bob, world.server()) is None
    assert not Connection.objects.visible_to(bob).exists()
    with pytest.raises(AuthorizationRequiredError):
        usable_access_token(world.connection(bob), now=now)
