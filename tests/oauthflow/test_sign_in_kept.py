"""What a sign-in brought is stored or given back, whatever happens beside it: there is no second code."""

from __future__ import annotations

from datetime import datetime
from unittest.mock import Mock

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError

from connections.models import Connection, FlowTrace
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.flows.revocation_outbox import revoke_due
from oauthflow.protocol.errors import StateError
from tests.fakes.world import World

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_sign_in_is_kept_though_its_trace_cannot_be(
    world: World, alice: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, cookies = world.come_back(world.connection(alice), user=alice, now=now)
    monkeypatch.setattr(FlowTrace, "save", Mock(side_effect=OperationalError("the connection is lost")))

    complete_authorization(params=params, user=alice, cookies=cookies, now=now)

    assert Connection.objects.get().status == "active"


def test_what_came_for_a_person_who_was_deleted_meanwhile_is_revoked(world: World, alice: User, now: datetime) -> None:
    params, cookies = world.come_back(world.connection(alice), user=alice, now=now)
    world.authorization_server.before_token_answer = lambda: User.objects.filter(pk=alice.pk).delete()

    with pytest.raises(StateError):
        complete_authorization(params=params, user=alice, cookies=cookies, now=now)
    revoke_due(now=now)
    assert len(world.authorization_server.revocations) == 2
