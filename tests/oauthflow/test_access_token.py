"""When a token is given out as it is, when it is refreshed first, and when a person has to help."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography.fernet import Fernet, MultiFernet
from django.contrib.auth.models import User
from pytest_django import Settings

from audit.models import AuditRecord
from connections.models import Connection, TokenSet
from connections.services import mark
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.flows.request_headers import prepare_request
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import (
    AuthorizationRequiredError,
    FlowError,
    InvalidRequestError,
    IssuerChangedError,
    SecretUnreadableError,
    TransportError,
)
from oauthflow.protocol.secret import Secret
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.faults import fault
from tests.requirements import requirement


@pytest.fixture
def connection(world: World, alice: User, now: datetime) -> Connection:
    return world.connect(alice, now=now)


def refreshes(world: World) -> int:
    return len(world.authorization_server.refresh_requests)


def events() -> list[str]:
    return [*AuditRecord.objects.order_by("sequence").values_list("event", flat=True)]


@pytest.mark.parametrize(("left", "asked"), [(301, 0), (300, 1), (0, 1)])
def test_a_token_is_refreshed_five_minutes_before_its_end(
    world: World, connection: Connection, now: datetime, left: int, asked: int
) -> None:
    usable_access_token(connection, now=now + timedelta(seconds=3600 - left))

    assert refreshes(world) == asked


@pytest.mark.parametrize(("age", "asked"), [(29, 0), (30, 1)])
def test_a_short_life_is_refreshed_at_its_half(world: World, alice: User, now: datetime, age: int, asked: int) -> None:
    world.authorization_server.expires_in = 60
    connection = world.connect(alice, now=now)

    usable_access_token(connection, now=now + timedelta(seconds=age))

    assert refreshes(world) == asked


def test_a_token_without_a_lifetime_is_used_until_it_is_refused(world: World, alice: User, now: datetime) -> None:
    world.authorization_server.expires_in = None
    connection = world.connect(alice, now=now)

    token = usable_access_token(connection, now=now + timedelta(days=400))
    assert refreshes(world) == 0
    renewed = usable_access_token(connection, now=now + timedelta(days=400), refused=token.access_token)
    assert renewed.access_token != token.access_token
    assert refreshes(world) == 1


def test_a_refusal_of_an_older_token_refreshes_nothing(world: World, connection: Connection, now: datetime) -> None:
    usable_access_token(connection, now=now, refused=Secret("an-older-one"))

    assert refreshes(world) == 0


# R7, F12, F13
@fault("F12", "F13")
@requirement("X-12")
@pytest.mark.parametrize(
    "answer",
    [
        Answer(500), Answer(503, "", {"Retry-After": "120"}), Answer(429), Answer(408), Answer(200, "<html>"),
        Answer(200, {"error": "invalid_grant"}), Answer(400, "<html>"), Answer(404), Answer(302, "", {"Location": "/"}),
        Answer(401, {"error": "invalid_client"}), Answer(400, {"error": "invalid_scope"}),
        Answer(400, {"error": "server_error"}), Answer(403, {"error": "invalid_grant"}),
    ],
)  # fmt: skip
def test_trouble_costs_no_login_and_a_token_that_still_works_is_given_out(
    world: World, connection: Connection, now: datetime, answer: Answer
) -> None:
    world.authorization_server.refresh_answer = answer
    before = usable_access_token(connection, now=now)

    assert usable_access_token(connection, now=now + timedelta(seconds=3400)) == before
    with pytest.raises(FlowError) as caught:
        usable_access_token(connection, now=now + timedelta(seconds=3600))
    assert not isinstance(caught.value, AuthorizationRequiredError)

    connection.refresh_from_db()
    assert connection.status == "degraded"
    world.authorization_server.refresh_answer = None
    much_later = now + timedelta(days=30)
    assert usable_access_token(connection, now=much_later).expires_at == much_later + timedelta(seconds=3600)
    connection.refresh_from_db()
    assert (connection.status, connection.reason) == ("active", "")


def test_the_server_is_left_alone_as_long_as_it_asked_for(world: World, connection: Connection, now: datetime) -> None:
    world.authorization_server.refresh_answer = Answer(503, "", {"Retry-After": "600"})
    end = now + timedelta(seconds=3600)
    with pytest.raises(TransportError):
        usable_access_token(connection, now=end)
    world.authorization_server.refresh_answer = None

    with pytest.raises(TransportError) as caught:
        usable_access_token(connection, now=end + timedelta(seconds=599))
    assert getattr(caught.value, "retry_after", None) == 1
    assert refreshes(world) == 1
    usable_access_token(connection, now=end + timedelta(seconds=600))
    assert refreshes(world) == 2


@requirement("X-12", "T-11")
def test_a_grant_that_ended_asks_for_a_person_once_and_the_server_never_again(
    world: World, connection: Connection, now: datetime
) -> None:
    world.authorization_server.refresh_tokens.clear()
    before = usable_access_token(connection, now=now)
    soon, over = now + timedelta(seconds=3400), now + timedelta(seconds=3600)

    assert usable_access_token(connection, now=soon) == before
    assert usable_access_token(connection, now=soon) == before
    for _ in range(3):
        with pytest.raises(AuthorizationRequiredError) as caught:
            usable_access_token(connection, now=over)
        assert caught.value.reason == "invalid_grant"
    assert refreshes(world) == 1
    assert events().count("reauthorization.required") == 1
    assert TokenSet.objects.exists()


@requirement("T-11")
def test_without_a_refresh_token_the_token_is_used_to_its_end(world: World, alice: User, now: datetime) -> None:
    world.authorization_server.issues_refresh_token = False
    connection = world.connect(alice, now=now)

    assert usable_access_token(connection, now=now + timedelta(seconds=3599)).access_token
    for _ in range(2):
        with pytest.raises(AuthorizationRequiredError) as caught:
            usable_access_token(connection, now=now + timedelta(seconds=3600))
        assert caught.value.reason == "no_refresh_token"
    connection.refresh_from_db()
    assert connection.status == "reauth_required"
    assert events().count("reauthorization.required") == 1


def test_without_tokens_a_person_is_asked_for(world: World, alice: User, now: datetime) -> None:
    with pytest.raises(AuthorizationRequiredError) as caught:
        usable_access_token(world.connection(alice), now=now)
    assert caught.value.reason == "not_connected"


# U11
@requirement("T-02", "R-19")
def test_a_server_that_moved_gets_neither_token_nor_refresh(
    world: World, connection: Connection, now: datetime
) -> None:
    mark(connection, status=Connection.Status.ISSUER_CHANGED, reason="issuer_changed")
    world.internet.calls.clear()

    with pytest.raises(IssuerChangedError):
        usable_access_token(Connection.objects.get(), now=now)
    with pytest.raises(IssuerChangedError):
        usable_access_token(Connection.objects.get(), now=now + timedelta(hours=2))
    assert world.internet.calls == []


# K01
@pytest.mark.parametrize("column", ["access_token_sealed", "refresh_token_sealed"])
@requirement("T-08")
def test_a_token_copied_from_another_row_does_not_open_and_nothing_is_sent(
    world: World, connection: Connection, bob: User, now: datetime, column: str
) -> None:
    theirs = world.connect(bob, now=now)
    stolen = TokenSet.objects.filter(connection=theirs).values_list(column, flat=True)[0]
    TokenSet.objects.filter(connection=connection).update(**{column: stolen})

    with pytest.raises(SecretUnreadableError) as caught:
        usable_access_token(connection, now=now + timedelta(seconds=3600))
    assert caught.value.code == Code.CREDENTIAL_UNREADABLE
    assert refreshes(world) == 0
    connection.refresh_from_db()
    assert connection.status == "key_unavailable"
    assert TokenSet.objects.count() == 2
    assert usable_access_token(theirs, now=now).access_token


# K01
def test_an_older_token_put_back_does_not_open(world: World, connection: Connection, now: datetime) -> None:
    old = TokenSet.objects.values("access_token_sealed", "refresh_token_sealed").get()
    usable_access_token(connection, now=now + timedelta(seconds=3600))
    new = TokenSet.objects.values("access_token_sealed", "refresh_token_sealed").get()
    TokenSet.objects.update(**old)

    with pytest.raises(SecretUnreadableError):
        usable_access_token(connection, now=now + timedelta(seconds=3700))
    TokenSet.objects.update(**new)
    assert usable_access_token(connection, now=now + timedelta(seconds=3700)).access_token
    assert Connection.objects.get().status == "active"


@requirement("T-01")
def test_the_token_travels_in_the_header_and_nowhere_else(connection: Connection, now: datetime) -> None:
    prepared = prepare_request(connection, now=now)

    assert prepared.access_token is not None
    assert prepared.headers["Authorization"] == Secret(f"Bearer {prepared.access_token.reveal()}")
    assert prepared.target.url == "https://mcp.example/mcp"
    assert prepared.access_token.reveal() not in repr(prepared)


@requirement("D-00")
@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"auth_type": "none"}, {}),
        ({"auth_type": "bearer"}, {"Authorization": "Bearer fixed"}),
        ({"auth_type": "header", "header_name": "X-Key"}, {"X-Key": "fixed"}),
    ],
)
def test_servers_without_oauth_get_what_was_entered_for_them(
    world: World, alice: User, now: datetime, fields: dict[str, str], headers: dict[str, str]
) -> None:
    server = world.server(**fields)
    server.static_credential_sealed = Secret("fixed")
    server.save()
    connection = world.connection(alice)

    assert connection.status == "active"
    sent = prepare_request(connection, now=now).headers
    assert {name: value.reveal() for name, value in sent.items()} == headers
    with pytest.raises(InvalidRequestError):
        usable_access_token(connection, now=now)


@requirement("D-00")
def test_a_local_program_gets_its_credentials_from_its_environment(
    world: World, alice: User, now: datetime, settings: Settings
) -> None:
    server = world.server(auth_type="none", transport="stdio", command="notes", arguments=["--quiet"])
    server.environment_sealed = Secret('{"KEY": "fixed"}')
    server.save()
    with pytest.raises(InvalidRequestError):
        prepare_request(world.connection(alice), now=now)
    settings.STDIO_SERVERS_ALLOWED = True

    prepared = prepare_request(world.connection(alice), now=now)

    assert prepared.headers == {}
    assert prepared.target.environment == {"KEY": Secret("fixed")}


# K03
@requirement("T-08")
def test_a_lost_key_ends_no_connection_and_the_key_brings_all_back(
    world: World, connection: Connection, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = now + timedelta(seconds=2700)
    with monkeypatch.context() as without:
        without.setattr("encrypted_model_fields.fields.CRYPTER", MultiFernet([Fernet(Fernet.generate_key())]))
        with pytest.raises(SecretUnreadableError):
            usable_access_token(connection, now=now)
        assert refresh_due(now=due) == {"refreshed": 0, "failed": 0}
        assert Connection.objects.get().status == "key_unavailable"
        assert world.authorization_server.refresh_requests == []

    assert usable_access_token(connection, now=due).access_token
    assert Connection.objects.get().status == "active"
    assert refresh_due(now=due) == {"refreshed": 1, "failed": 0}
