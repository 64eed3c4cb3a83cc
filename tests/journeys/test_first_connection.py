"""From a URL to a token that works, and to what happens when it ends."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.auth.models import User

from audit.models import AuditRecord
from connections.models import ClientRegistration, Connection, FlowTrace
from oauthflow.flows.access_token import usable_access_token
from tests.fakes.world import World
from tests.requirements import requirement


@requirement("D-04", "R-01", "A-06", "T-01")
def test_a_person_connects_and_a_program_gets_a_token(world: World, alice: User, now: datetime) -> None:
    connection = world.connect(alice, now=now)

    assert connection.status == Connection.Status.ACTIVE
    assert connection.registration_method == "dynamic"
    token = usable_access_token(connection, now=now)
    assert token.access_token.reveal().startswith("at-")
    assert token.expires_at == now + timedelta(seconds=3600)
    assert token.resource == world.mcp_server.url
    sent = world.authorization_server.token_requests[0]
    assert sent["resource"] == world.authorization_server.authorization_requests[0]["resource"] == world.mcp_server.url
    assert ClientRegistration.objects.get().client_id == sent["client"]
    assert [*AuditRecord.objects.order_by("sequence").values_list("event", flat=True)] == [
        "client.registered",
        "authorization.initiated",
        "authorization.completed",
    ]
    assert FlowTrace.objects.filter(ok=True).count() == 2


def test_a_token_near_its_end_is_refreshed_before_it_is_given_out(world: World, alice: User, now: datetime) -> None:
    connection = world.connect(alice, now=now)
    first = usable_access_token(connection, now=now)

    later = now + timedelta(seconds=3600 - 299)
    second = usable_access_token(connection, now=later)

    assert second.access_token != first.access_token
    assert second.expires_at == later + timedelta(seconds=3600)
    assert len(world.authorization_server.refresh_requests) == 1
