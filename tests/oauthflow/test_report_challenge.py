"""A client met a 401: refresh, sign in, or stop."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User

from connections.models import Connection, McpServer
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.report_challenge import ChallengeAnswer, report_challenge
from oauthflow.protocol.errors import InvalidRequestError, IssuerChangedError, TransportError
from tests.fakes.authorization_server import FakeAuthorizationServer
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.requirements import requirement

INVALID_TOKEN = 'Bearer error="invalid_token"'


@pytest.fixture
def connection(world: World, alice: User, now: datetime) -> Connection:
    return world.connect(alice, now=now)


def reported(
    connection: Connection, *, user: User, now: datetime, status: int = 401, header: str = INVALID_TOKEN
) -> ChallengeAnswer:
    return report_challenge(connection, user=user, status=status, www_authenticate=header, now=now)


@requirement("D-06")
def test_a_refused_token_is_renewed_and_the_call_repeated(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    before = usable_access_token(connection, now=now)
    later = now + timedelta(seconds=31)

    assert reported(connection, user=alice, now=later) == ChallengeAnswer("retry")
    assert usable_access_token(connection, now=later).access_token != before.access_token


def test_a_token_that_is_fresh_and_refused_needs_a_person(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    answer = reported(connection, user=alice, now=now + timedelta(seconds=29))

    assert answer.action == "authorize"
    assert answer.started is not None
    assert world.authorization_server.refresh_requests == []


@pytest.mark.parametrize("cause", ["ended", "none issued"])
def test_what_cannot_be_refreshed_needs_a_person(world: World, alice: User, now: datetime, cause: str) -> None:
    world.authorization_server.issues_refresh_token = cause == "ended"
    connection = world.connect(alice, now=now)
    world.authorization_server.refresh_tokens.clear()

    assert reported(connection, user=alice, now=now + timedelta(minutes=1)).action == "authorize"


def test_a_server_in_trouble_is_reported_as_such_and_costs_no_login(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    world.authorization_server.refresh_answer = Answer(503)

    with pytest.raises(TransportError):
        reported(connection, user=alice, now=now + timedelta(minutes=1))
    connection.refresh_from_db()
    assert connection.status == "degraded"


def test_a_forgotten_client_is_registered_anew_for_the_next_sign_in(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    world.authorization_server.forgets_clients = True
    answer = reported(connection, user=alice, now=now + timedelta(minutes=1))

    assert answer.action == "authorize"
    assert len(world.authorization_server.registrations) == 2


@pytest.mark.parametrize(
    ("status", "header"),
    [
        (403, 'Bearer error="invalid_token", scope="files"'),
        (403, 'Bearer error="insufficient_scope"'),
        (403, 'Bearer error="insufficient_scope", scope="  "'),
        (403, ""),
        (403, "Basic realm=x"),
        (500, 'Bearer error="insufficient_scope", scope="files"'),
    ],
)
def test_what_no_sign_in_can_mend_is_given_up(
    world: World, connection: Connection, alice: User, now: datetime, status: int, header: str
) -> None:
    world.internet.calls.clear()

    assert reported(connection, user=alice, now=now, status=status, header=header) == ChallengeAnswer("give_up")
    assert world.internet.calls == []


@requirement("D-15", "R-19", "T-02")
def test_a_challenge_that_names_another_authorization_server_stops_the_connection(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    other = FakeAuthorizationServer(issuer="https://new.example")
    world.internet["https://new.example"] = other
    world.mcp_server.issuers = ["https://new.example"]

    with pytest.raises(IssuerChangedError):
        reported(connection, user=alice, now=now)
    connection.refresh_from_db()
    assert connection.status == "issuer_changed"
    assert {call.path for call in world.internet.calls_to("new.example")} == {"/.well-known/oauth-authorization-server"}


def test_only_who_manages_a_shared_connection_is_sent_to_sign_in(
    world: World, alice: User, administrator: User, now: datetime
) -> None:
    McpServer.objects.filter(pk=world.server().pk).update(connection_policy="shared")
    connection = world.connect(administrator, now=now)
    assert connection.is_shared

    with pytest.raises(InvalidRequestError):
        reported(connection, user=alice, now=now)
    assert reported(connection, user=administrator, now=now).action == "authorize"
