"""An authorization server forgets that we registered: some do so after a restart, others after a month."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User

from connections.models import ClientRegistration, Connection, TokenSet
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import ClientRefusedError
from tests.fakes.world import World
from tests.requirements import requirement


@requirement("X-12", "R-04")
def test_nobody_is_marked_and_whoever_signs_in_again_gets_a_new_registration(
    world: World, alice: User, bob: User, now: datetime
) -> None:
    hers, his = world.connect(alice, now=now), world.connect(bob, now=now)
    world.authorization_server.forgets_clients = True
    due = now + timedelta(seconds=2700)

    assert refresh_due(now=due) == {"refreshed": 0, "failed": 2}
    assert not Connection.objects.filter(status="reauth_required").exists()
    assert usable_access_token(hers, now=due).access_token
    with pytest.raises(ClientRefusedError):
        usable_access_token(hers, now=now + timedelta(seconds=3600))

    world.authorization_server.forgets_clients = False
    hers = world.connect(alice, now=due)
    assert (hers.status, hers.reason) == ("active", "")
    assert ClientRegistration.objects.get(status="active").client_id == "client-2"
    # His tokens keep the client they were granted to, and come back to life if the server remembers it.
    assert TokenSet.objects.get(connection=his).client_id == "client-1"
    assert ClientRegistration.objects.filter(client_id="client-1").exists()
    assert refresh_due(now=now + timedelta(days=1))["failed"] == 0
    his.refresh_from_db()
    assert his.status == "active"


def test_a_sign_in_that_meets_it_fails_with_a_reason_and_the_next_one_works(
    world: World, alice: User, now: datetime
) -> None:
    params, cookies = world.come_back(world.connection(alice), user=alice, now=now)
    world.authorization_server.forgets_clients = True
    with pytest.raises(ClientRefusedError) as caught:
        complete_authorization(params=params, user=alice, cookies=cookies, now=now)
    assert caught.value.code == Code.INVALID_CLIENT

    world.authorization_server.forgets_clients = False
    assert world.connect(alice, now=now).status == "active"
    assert ClientRegistration.objects.get(status="active").client_id == "client-2"
    assert ClientRegistration.objects.get(status="superseded").client_id == "client-1"
