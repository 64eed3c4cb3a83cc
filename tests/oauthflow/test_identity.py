"""Enterprise-managed authorization: the company's sign-in vouches for a person. SEP-990."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

import pytest
from django.contrib.auth.models import User

from connections.leases import give_lease_back, lease_for_refresh
from connections.models import Connection, McpServer, TokenSet
from connections.services import connection_for, keep_subject_token
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.flows.connect_unattended import connect_unattended
from oauthflow.flows.refresh import identity as identity_module
from oauthflow.flows.refresh.health import FAILURES
from oauthflow.flows.refresh.recovery import recover_abandoned
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.flows.revoke import revoke_connection
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.models import IssuerHealth
from oauthflow.protocol.errors import (
    AuthorizationRequiredError,
    ClientRefusedError,
    MalformedResponseError,
    NotConfiguredError,
)
from oauthflow.protocol.retry_after import ServerUnavailableError
from oauthflow.protocol.secret import Secret
from tests.fakes.authorization_server import FakeAuthorizationServer
from tests.fakes.internet import Answer
from tests.fakes.mcp_server import FakeMcpServer
from tests.fakes.world import World

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
REFRESH_TOKEN = "urn:ietf:params:oauth:token-type:refresh_token"
LATER = timedelta(hours=2)


@pytest.fixture
def company(world: World) -> World:
    """The company's sign-in service, as a world of its own in the same internet."""
    return World(
        world.internet,
        FakeAuthorizationServer(issuer="https://idp.example"),
        FakeMcpServer(url="https://idp.example/userinfo", publishes_metadata=False),
    )


@pytest.fixture
def sign_in(world: World, company: World) -> McpServer:
    world.internet["https://idp.example"] = company.authorization_server
    return McpServer.objects.create(
        slug="company", name="Company", url="https://idp.example/userinfo", issuer="https://idp.example",
        authorization_endpoint="https://idp.example/authorize", token_endpoint="https://idp.example/token",
        client_id="site-at-idp",
    )  # fmt: skip


@pytest.fixture
def notes(world: World, sign_in: McpServer) -> McpServer:
    world.authorization_server.grant_types = [JWT_BEARER]
    return world.server(
        grant_type="token_exchange", identity_provider=sign_in, client_id="site", client_secret_sealed=Secret("s")
    )


def signed_in(
    world: World, company: World, user: User, sign_in: McpServer, *, now: datetime, label: str = ""
) -> Connection:
    identity = connection_for(user, sign_in, label=label, actor=user)
    params, cookies = company.come_back(identity, user=user, now=now)
    return complete_authorization(params=params, user=user, cookies=cookies, now=now).connection


def test_the_persons_sign_in_at_the_company_is_enough(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, now: datetime
) -> None:
    signed_in(world, company, alice, sign_in, now=now)
    token = usable_access_token(world.connection(alice), now=now)
    assert token.access_token.reveal().startswith("at-")
    (exchange,) = company.authorization_server.unattended_requests
    assert exchange["audience"] == world.authorization_server.issuer
    assert exchange["resource"] == world.mcp_server.url
    assert exchange["requested_token_type"] == "urn:ietf:params:oauth:token-type:id-jag"
    assert exchange["subject_token_type"] == REFRESH_TOKEN
    assert exchange["subject_token"] in company.authorization_server.refresh_tokens
    assert exchange["client"] == "site-at-idp"
    (grant,) = world.authorization_server.unattended_requests
    assert (grant["grant_type"], grant["client"]) == (JWT_BEARER, "site")
    assert grant["authorization"].startswith("Basic ")
    assert grant["assertion"].count(".") == 2
    assert exchange["subject_token"] not in str(world.authorization_server.unattended_requests)


def test_a_program_can_say_who_the_person_is(
    world: World, company: World, notes: McpServer, alice: User, now: datetime
) -> None:
    connection = world.connection(alice)
    keep_subject_token(connection, Secret("id-token-of-alice"), kind=ID_TOKEN)
    assert connect_unattended(connection, actor=alice, now=now).status == "active"
    (exchange,) = company.authorization_server.unattended_requests
    assert (exchange["subject_token"], exchange["subject_token_type"]) == ("id-token-of-alice", ID_TOKEN)
    kept = Connection.objects.get(pk=connection.pk).subject_token_sealed
    assert "id-token-of-alice" not in str(kept.ciphertext)


def test_what_a_program_said_is_forgotten_with_the_connection(
    world: World, notes: McpServer, alice: User, now: datetime
) -> None:
    connection = world.connection(alice)
    keep_subject_token(connection, Secret("id-token-of-alice"), kind=ID_TOKEN)
    connect_unattended(connection, actor=alice, now=now)
    revoke_connection(connection, actor=alice, reason="", now=now)
    assert not Connection.objects.get(pk=connection.pk).subject_token_sealed


def test_without_a_sign_in_the_person_is_sent_to_the_companys(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, now: datetime
) -> None:
    connection = world.connection(alice)
    with pytest.raises(AuthorizationRequiredError) as caught:
        usable_access_token(connection, now=now)
    assert caught.value.reason == "identity_required"
    assert world.internet.calls_to("/token") == []
    started = start_authorization(connection, user=alice, now=now)
    assert started.request.connection.server == sign_in
    assert started.request.connection.user == alice


def test_after_that_sign_in_the_next_use_works(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, now: datetime
) -> None:
    connection = world.connection(alice)
    with pytest.raises(AuthorizationRequiredError):
        usable_access_token(connection, now=now)
    signed_in(world, company, alice, sign_in, now=now)
    assert usable_access_token(Connection.objects.get(pk=connection.pk), now=now).access_token


def test_of_several_sign_ins_of_a_person_one_that_works_vouches(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, now: datetime
) -> None:
    connection_for(alice, sign_in, actor=alice)  # begun, and never finished
    working = signed_in(world, company, alice, sign_in, now=now, label="work")
    assert working.status == "active"
    assert usable_access_token(world.connection(alice), now=now).access_token.reveal().startswith("at-")


def test_a_sign_in_without_a_refresh_token_stands_in_no_others_way(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, now: datetime
) -> None:
    company.authorization_server.issues_refresh_token = False
    signed_in(world, company, alice, sign_in, now=now)
    company.authorization_server.issues_refresh_token = True
    signed_in(world, company, alice, sign_in, now=now, label="work")
    assert usable_access_token(world.connection(alice), now=now).access_token.reveal().startswith("at-")


def test_nobody_is_vouched_for_by_somebody_elses_sign_in(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, bob: User, now: datetime
) -> None:
    signed_in(world, company, bob, sign_in, now=now)
    with pytest.raises(AuthorizationRequiredError):
        usable_access_token(world.connection(alice), now=now)
    assert company.authorization_server.unattended_requests == []


def test_renewal_asks_both_services_again_in_the_background(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, now: datetime
) -> None:
    signed_in(world, company, alice, sign_in, now=now)
    connection = connect_unattended(world.connection(alice), actor=alice, now=now)
    TokenSet.objects.filter(connection__server=sign_in).update(refresh_due_at=None)
    assert refresh_due(now=now + timedelta(minutes=50)) == {"refreshed": 1, "failed": 0}
    assert TokenSet.objects.get(connection=connection).generation == 2
    assert len(company.authorization_server.unattended_requests) == 2
    assert len({sent["assertion"] for sent in world.authorization_server.unattended_requests}) == 2


def test_a_refused_identity_ends_the_connection_until_the_person_signs_in_again(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, now: datetime
) -> None:
    signed_in(world, company, alice, sign_in, now=now)
    connection = connect_unattended(world.connection(alice), actor=alice, now=now)
    company.authorization_server.unattended_answer = Answer(400, {"error": "invalid_grant"})
    for _ in range(2):
        with pytest.raises(AuthorizationRequiredError):
            usable_access_token(connection, now=now + LATER)
    assert len(company.authorization_server.unattended_requests) == 2
    connection.refresh_from_db()
    assert connection.status == "reauth_required"
    company.authorization_server.unattended_answer = None
    signed_in(world, company, alice, sign_in, now=now + LATER)
    assert usable_access_token(Connection.objects.get(pk=connection.pk), now=now + LATER).access_token


def test_something_else_than_an_identity_assertion_is_not_passed_on(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, now: datetime
) -> None:
    signed_in(world, company, alice, sign_in, now=now)
    company.authorization_server.exchange_overrides = {
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"
    }
    with pytest.raises(MalformedResponseError):
        usable_access_token(world.connection(alice), now=now)
    assert world.authorization_server.unattended_requests == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_module, "_PATIENCE_SECONDS", 0.0)


def test_who_presents_the_refresh_token_for_another_server_is_waited_for(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Two servers of the same person are used at once: neither is to fail and to pause for it."""
    identity = TokenSet.objects.get(connection=signed_in(world, company, alice, sign_in, now=now))
    assert lease_for_refresh(identity, owner="somebody", seconds=60)
    done = partial(give_lease_back, identity, lease_owner="somebody")
    monkeypatch.setattr(identity_module.time, "sleep", lambda _: done())
    assert usable_access_token(world.connection(alice), now=now).access_token.reveal().startswith("at-")
    assert world.connection(alice).status == "active"


def test_the_refresh_token_is_not_presented_while_it_is_being_rotated(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, now: datetime, impatient: None
) -> None:
    identity = signed_in(world, company, alice, sign_in, now=now)
    assert lease_for_refresh(TokenSet.objects.get(connection=identity), owner="somebody", seconds=60)
    with pytest.raises(ServerUnavailableError):
        usable_access_token(world.connection(alice), now=now)
    assert company.authorization_server.unattended_requests == []


def test_it_is_not_presented_where_nobody_knows_whether_it_was_rotated(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, now: datetime, impatient: None
) -> None:
    identity = signed_in(world, company, alice, sign_in, now=now)
    owner = "0123456789abcdef-000000000000-0"
    TokenSet.objects.filter(connection=identity).update(lease_owner=owner, lease_expires_at=now)
    with pytest.raises(ServerUnavailableError):
        usable_access_token(world.connection(alice), now=now)
    assert company.authorization_server.unattended_requests == []

    assert recover_abandoned(now=now).refreshed == 1
    TokenSet.objects.update(next_attempt_at=None)
    assert usable_access_token(world.connection(alice), now=now).access_token.reveal().startswith("at-")


def test_it_is_not_rotated_while_it_is_presented(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, now: datetime
) -> None:
    identity = signed_in(world, company, alice, sign_in, now=now)
    free: list[bool] = []

    def another_worker() -> None:
        free.append(lease_for_refresh(TokenSet.objects.get(connection=identity), owner="somebody", seconds=60))

    company.authorization_server.before_token_answer = another_worker
    usable_access_token(world.connection(alice), now=now)
    assert free == [False]
    assert TokenSet.objects.get(connection=identity).lease_owner == ""


def test_a_server_without_its_companys_entry_says_what_is_missing(
    world: World, notes: McpServer, alice: User, now: datetime
) -> None:
    McpServer.objects.filter(pk=notes.pk).update(identity_provider=None)
    with pytest.raises(NotConfiguredError, match="identity_provider"):
        usable_access_token(world.connection(alice), now=now)


def test_a_server_that_is_asked_without_resource_is_refused(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, now: datetime
) -> None:
    McpServer.objects.filter(pk=notes.pk).update(resource_mode="omit")
    signed_in(world, company, alice, sign_in, now=now)
    with pytest.raises(NotConfiguredError, match="resource"):
        usable_access_token(world.connection(alice), now=now)


def test_trouble_at_the_companys_service_is_not_held_against_the_servers_own(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, now: datetime
) -> None:
    signed_in(world, company, alice, sign_in, now=now)
    connection = connect_unattended(world.connection(alice), actor=alice, now=now)
    company.authorization_server.unattended_answer = Answer(503)
    with pytest.raises(ServerUnavailableError):
        usable_access_token(connection, now=now + LATER)
    assert list(IssuerHealth.objects.values_list("issuer", flat=True)) == ["https://idp.example"]


def test_a_companys_service_that_does_not_answer_is_waited_for_by_few(
    world: World, company: World, notes: McpServer, sign_in: McpServer, now: datetime
) -> None:
    people = [User.objects.create_user(f"user{number}") for number in range(FAILURES + 3)]
    for person in people:
        signed_in(world, company, person, sign_in, now=now)
        usable_access_token(world.connection(person), now=now)
    company.authorization_server.unattended_requests.clear()
    company.authorization_server.unattended_answer = Answer(503, {})
    over = now + LATER

    refresh_due(now=over)
    assert len(company.authorization_server.unattended_requests) == FAILURES
    assert Connection.objects.filter(server=notes, status="degraded").count() == len(people)

    company.authorization_server.unattended_answer = None
    TokenSet.objects.update(next_attempt_at=None)
    assert refresh_due(now=over + timedelta(hours=1))["failed"] == 0
    assert Connection.objects.filter(server=notes, status="active").count() == len(people)


def test_a_companys_service_that_lets_us_ask_for_nobody_still_renews_the_sign_in_itself(
    world: World, company: World, notes: McpServer, sign_in: McpServer, alice: User, now: datetime
) -> None:
    signed_in(world, company, alice, sign_in, now=now)
    connection = world.connection(alice)
    usable_access_token(connection, now=now)
    company.authorization_server.unattended_answer = Answer(400, {"error": "unauthorized_client"})
    with pytest.raises(ClientRefusedError):
        usable_access_token(connection, now=now + LATER)
    assert refresh_due(now=now + LATER)["refreshed"] == 1
    assert Connection.objects.get(server=sign_in).status == "active"
