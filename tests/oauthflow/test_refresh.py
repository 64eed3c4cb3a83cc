"""The refresh of one connection: what is sent, what is kept, and who loses a race. Security notes B0."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django import Settings

from audit.models import AuditRecord
from connections.leases import lease_for_refresh
from connections.models import ClientRegistration, Connection, FlowTrace, McpServer, Revocation, TokenSet
from connections.revocations import end_grants
from oauthflow.egress import Egress
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.discover import discover
from oauthflow.flows.refresh import failure, refresh_connection
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.flows.revocation_outbox import revoke_due
from oauthflow.protocol.errors import (
    AuthorizationRequiredError,
    ClientRefusedError,
    InvalidRequestError,
    IssuerChangedError,
    NoClientError,
    ResponseTimeoutError,
    TransportError,
)
from oauthflow.protocol.secret import Secret
from tests.fakes.authorization_server import FakeAuthorizationServer
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.faults import fault
from tests.requirements import requirement


@pytest.fixture
def connection(world: World, alice: User, now: datetime) -> Connection:
    return world.connect(alice, now=now)


def stored(connection: Connection) -> tuple[str, str]:
    tokens = TokenSet.objects.get(connection=connection)
    return tokens.access_token_sealed.reveal().reveal(), tokens.refresh_token_sealed.reveal().reveal()


@requirement("X-13", "A-06", "T-11", "T-12")
def test_a_refresh_sends_the_resource_and_never_a_scope(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    _, refresh_token = stored(connection)

    refresh_connection(connection, now=now, trigger="request", actor=alice)

    (sent,) = world.authorization_server.refresh_requests
    assert sent["refresh_token"] == refresh_token
    assert sent["resource"] == world.mcp_server.url
    assert "scope" not in sent
    entry = AuditRecord.objects.get(event="token.refreshed")
    assert (entry.actor, entry.details["trigger"], entry.details["generation"]) == (str(alice.pk), "request", 2)
    assert connection.last_refreshed_at == now


@requirement("X-13")
@pytest.mark.parametrize("sent_back", [None, ""])
def test_the_old_refresh_token_is_kept_where_none_comes_back(
    world: World, connection: Connection, now: datetime, sent_back: str | None
) -> None:
    world.authorization_server.rotates = False
    world.authorization_server.token_overrides = {"refresh_token": sent_back}
    first = stored(connection)

    refresh_connection(connection, now=now, trigger="use")
    refresh_connection(connection, now=now, trigger="use")

    second = stored(connection)
    assert (second[1], len(world.authorization_server.refresh_requests)) == (first[1], 2)
    assert second[0] != first[0]


def test_a_rotated_refresh_token_replaces_the_old_one(world: World, connection: Connection, now: datetime) -> None:
    first = stored(connection)
    refresh_connection(connection, now=now, trigger="use")

    assert stored(connection)[1] != first[1]
    refresh_connection(connection, now=now, trigger="use")
    assert TokenSet.objects.get().generation == 3


# R5
@requirement("X-12")
def test_a_loser_with_invalid_grant_takes_the_winners_tokens_and_deletes_nothing(
    world: World, connection: Connection, now: datetime
) -> None:
    def somebody_else_is_faster() -> None:
        world.authorization_server.before_token_answer = None
        TokenSet.objects.update(lease_owner="", lease_expires_at=None)  # their lease ran out
        refresh_connection(Connection.objects.get(), now=now, trigger="use")

    world.authorization_server.before_token_answer = somebody_else_is_faster

    token = usable_access_token(connection, now=now + timedelta(seconds=3600))

    assert len(world.authorization_server.refresh_requests) == 2
    assert token.access_token.reveal() == stored(connection)[0]
    assert TokenSet.objects.get().generation == 2
    connection.refresh_from_db()
    assert connection.status == "active"
    assert not AuditRecord.objects.filter(event="reauthorization.required").exists()


@fault("F03")
def test_a_late_answer_does_not_overwrite_newer_tokens(world: World, connection: Connection, now: datetime) -> None:
    world.authorization_server.rotates = False

    def somebody_else_is_faster() -> None:
        world.authorization_server.before_token_answer = None
        TokenSet.objects.update(lease_owner="", lease_expires_at=None)
        refresh_connection(Connection.objects.get(), now=now, trigger="use")
        theirs.append(stored(connection))

    theirs: list[tuple[str, str]] = []
    world.authorization_server.before_token_answer = somebody_else_is_faster
    refresh_connection(connection, now=now, trigger="use")

    assert stored(connection) == theirs[0]
    assert world.authorization_server.revocations == []


@fault("F14")
@requirement("X-12")
def test_a_client_that_is_not_accepted_ends_no_grant_and_is_not_used_for_new_ones(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    world.authorization_server.forgets_clients = True
    for _ in range(2):
        with pytest.raises(ClientRefusedError):
            refresh_connection(connection, now=now, trigger="use")

    connection.refresh_from_db()
    assert (connection.status, connection.reason) == ("degraded", "invalid_client")
    assert TokenSet.objects.get().refresh_token_sealed
    assert len(world.authorization_server.refresh_requests) == 1
    assert ClientRegistration.objects.get().status == "superseded"
    world.authorization_server.forgets_clients = False
    assert world.connect(alice, now=now).status == "active"
    assert TokenSet.objects.get().client_id == "client-2"


def test_tokens_of_a_replaced_client_wait_and_the_secret_of_the_new_one_is_not_tried(
    world: World, alice: User, now: datetime
) -> None:
    server = world.server(client_id="first")
    server.client_secret_sealed = Secret("first-secret")
    server.save()
    connection = world.connect(alice, now=now)
    McpServer.objects.update(client_id="second")

    for _ in range(2):
        with pytest.raises((NoClientError, TransportError)):
            refresh_connection(Connection.objects.get(), now=now, trigger="schedule")
    assert world.authorization_server.refresh_requests == []
    connection.refresh_from_db()
    assert connection.status == "degraded"
    assert AuditRecord.objects.filter(event="token.refresh_failed").count() == 1
    McpServer.objects.update(client_id="first")
    refresh_connection(Connection.objects.get(), now=now, trigger="request")
    assert len(world.authorization_server.refresh_requests) == 1


@pytest.mark.parametrize("in_background", [False, True])
def test_tokens_of_a_client_whose_secret_was_taken_out_wait_and_the_connection_says_so(
    world: World, alice: User, now: datetime, in_background: bool
) -> None:
    world.server(client_id="first", client_secret_sealed=Secret("first-secret"))
    connection, due = world.connect(alice, now=now), now + timedelta(minutes=50)
    McpServer.objects.update(client_secret_sealed="")

    if in_background:
        assert [refresh_due(now=due)["failed"] for _ in range(2)] == [1, 0]
    else:
        with pytest.raises(InvalidRequestError):
            refresh_connection(Connection.objects.get(), now=due, trigger="use")
    connection.refresh_from_db()
    assert (connection.status, connection.reason) == ("degraded", "invalid_client")
    assert world.authorization_server.refresh_requests == []


@pytest.mark.parametrize(("drawn", "first", "second", "last"), [(0.0, 30, 30, 30), (1.0, 60, 120, 3600)])
def test_pauses_are_drawn_from_half_a_minute_to_an_end_that_grows_to_an_hour(
    world: World,
    connection: Connection,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    drawn: float,
    first: int,
    second: int,
    last: int,
) -> None:
    monkeypatch.setattr(failure._random, "random", lambda: drawn)
    world.authorization_server.refresh_answer = Answer(500)
    moment, pauses = now, []
    for _ in range(10):
        with pytest.raises(TransportError):
            refresh_connection(connection, now=moment, trigger="schedule")
        following = TokenSet.objects.get().next_attempt_at
        assert following is not None
        pauses.append((following - moment).total_seconds())
        moment = following

    assert (pauses[:2], set(pauses[7:])) == ([first, second], {last})
    assert TokenSet.objects.get().refresh_failures == 10


def test_a_person_may_try_in_the_pause_and_after_a_refusal(world: World, connection: Connection, now: datetime) -> None:
    world.authorization_server.refresh_answer = Answer(400, {"error": "invalid_grant"})
    with pytest.raises(AuthorizationRequiredError):
        refresh_connection(connection, now=now, trigger="use")
    world.authorization_server.refresh_answer = Answer(500)
    with pytest.raises(TransportError):
        refresh_connection(connection, now=now, trigger="request")
    world.authorization_server.refresh_answer = None

    assert refresh_connection(connection, now=now, trigger="request").status == "active"


@fault("F23")
@pytest.mark.parametrize("deletes", [True, False])
def test_tokens_that_arrive_after_a_disconnect_are_revoked_and_not_kept(
    world: World, connection: Connection, alice: User, now: datetime, deletes: bool
) -> None:
    def disconnect() -> None:
        found = Connection.objects.get()
        end_grants([found], actor=alice, reason="disconnected", now=timezone.now())
        if deletes:
            found.delete()

    world.authorization_server.before_token_answer = disconnect

    with pytest.raises(AuthorizationRequiredError) as caught:
        refresh_connection(connection, now=now, trigger="use")

    assert caught.value.reason == "disconnected"
    assert not TokenSet.objects.exists()
    assert world.authorization_server.revocations == []
    revoke_due(now=timezone.now())
    assert [one["token_type_hint"] for one in world.authorization_server.revocations] == [
        *("refresh_token", "refresh_token"),
        *("access_token", "access_token"),
    ]
    assert world.authorization_server.refresh_tokens == {}
    assert Revocation.objects.waiting().count() == 0


def test_a_server_that_is_deleted_meanwhile_leaves_nothing_behind(
    world: World, connection: Connection, now: datetime
) -> None:
    world.authorization_server.before_token_answer = lambda: McpServer.objects.all().delete()

    with pytest.raises(AuthorizationRequiredError):
        refresh_connection(connection, now=now, trigger="use")
    assert not FlowTrace.objects.exists()


@pytest.mark.parametrize(("answer", "generation"), [(None, 2), (Answer(400, {"error": "invalid_grant"}), 1)])
def test_an_answer_under_way_brings_no_connection_back_whose_server_moved(
    world: World, connection: Connection, now: datetime, answer: Answer | None, generation: int
) -> None:
    world.authorization_server.refresh_answer = answer
    elsewhere = FakeAuthorizationServer(issuer="https://new.example")
    world.internet[elsewhere.issuer] = elsewhere

    def moves() -> None:
        world.mcp_server.issuers = [elsewhere.issuer]
        with pytest.raises(IssuerChangedError):
            discover(connection.server, http=Egress(), now=now + timedelta(days=2))

    world.authorization_server.before_token_answer = moves
    with pytest.raises(IssuerChangedError):
        refresh_connection(connection, now=now + timedelta(hours=1), trigger="request")
    assert (Connection.objects.get().status, TokenSet.objects.get().generation) == ("issuer_changed", generation)


def test_a_lease_is_taken_once_and_runs_out(connection: Connection) -> None:
    assert lease_for_refresh(TokenSet.objects.get(), owner="one", seconds=60)
    assert not lease_for_refresh(TokenSet.objects.get(), owner="two", seconds=60)
    TokenSet.objects.update(lease_expires_at=Now())
    assert lease_for_refresh(TokenSet.objects.get(), owner="two", seconds=60)


def test_who_waits_too_long_for_another_refresh_gives_up(
    world: World, connection: Connection, now: datetime, settings: Settings
) -> None:
    settings.MCP_OAUTH = {"lease_wait_seconds": 0}
    lease_for_refresh(TokenSet.objects.get(), owner="frozen", seconds=60)

    with pytest.raises(ResponseTimeoutError):
        refresh_connection(connection, now=now, trigger="use")
    assert world.authorization_server.refresh_requests == []
    TokenSet.objects.update(lease_expires_at=Now())
    refresh_connection(connection, now=now, trigger="use")
    assert len(world.authorization_server.refresh_requests) == 1


@pytest.mark.parametrize(
    ("written", "error"),
    [
        ({"lease_owner": "", "refresh_failures": 1}, TransportError),
        ({"lease_owner": "", "generation": 2}, None),
        (None, AuthorizationRequiredError),
        ("refused", AuthorizationRequiredError),
    ],
)
def test_who_waited_gets_the_outcome_of_the_winner(
    connection: Connection, now: datetime, monkeypatch: pytest.MonkeyPatch, written: Any, error: type[Exception] | None
) -> None:
    lease_for_refresh(TokenSet.objects.get(), owner="winner", seconds=60)

    def winner_finishes(seconds: float) -> None:
        if written is None:
            TokenSet.objects.all().delete()
        elif written == "refused":
            TokenSet.objects.update(lease_owner="")
            Connection.objects.update(status="reauth_required", reason="invalid_grant")
        else:
            TokenSet.objects.update(**written)

    monkeypatch.setattr("oauthflow.flows.refresh.waiting.time.sleep", winner_finishes)
    if error is None:
        assert refresh_connection(connection, now=now, trigger="use") == connection
    else:
        with pytest.raises(error):
            refresh_connection(connection, now=now, trigger="use")


def test_a_lifetime_in_milliseconds_is_read_as_the_profile_says(world: World, alice: User, now: datetime) -> None:
    world.server(profile="clerk")
    world.authorization_server.expires_in = 3_600_000
    connection = world.connect(alice, now=now)
    refresh_connection(connection, now=now, trigger="use")

    assert TokenSet.objects.get().expires_at == now + timedelta(seconds=3600)
