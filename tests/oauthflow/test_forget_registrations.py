"""A registration that nothing needs any more is deleted here and at its service. RFC 7592 §2.3."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from audit.models import AuditRecord
from connections.models import ClientRegistration, Connection, Revocation
from connections.server_changes import delete_server
from oauthflow.flows.forget_registrations import forget_registrations
from oauthflow.flows.register_client import reset_registration
from oauthflow.flows.revocation_outbox import revoke_due
from oauthflow.flows.revoke import revoke_connection
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.errors import InvalidRequestError
from tests.fakes.internet import Answer, Call
from tests.fakes.world import World


@pytest.fixture
def connection(world: World, alice: User, now: datetime) -> Connection:
    return world.connect(alice, now=now)


def sweep(*, hours: float = 2) -> int:
    """What the worker does every ten minutes, and then tells."""
    later = timezone.now() + timedelta(hours=hours)
    deleted = forget_registrations(now=later)
    revoke_due(now=later)
    return deleted


def test_with_the_last_grant_its_registration_goes_after_a_while(
    world: World, connection: Connection, bob: User, now: datetime
) -> None:
    other = world.connect(bob, now=now)
    revoke_connection(connection, actor=bob, reason="", now=now)
    assert [sweep(), sweep(hours=3)] == [0, 0]
    assert ClientRegistration.objects.get().status == "active"

    revoke_connection(other, actor=bob, reason="", now=now)
    assert sweep() == 0
    assert ClientRegistration.objects.get().status == "superseded"
    assert sweep(hours=2.1) == 0
    assert sweep(hours=2.2) == 1
    assert world.authorization_server.deletions == ["client-1"]
    entry = AuditRecord.objects.latest("sequence")
    assert (entry.event, entry.details["kind"], entry.details["outcome"]) == (
        "credentials.revoked",
        "registration",
        "revoked",
    )
    assert world.connect(bob, now=now).status == "active"
    assert ClientRegistration.objects.get().client_id == "client-2"


def test_a_registration_that_was_made_a_moment_ago_is_left_alone(world: World, alice: User, now: datetime) -> None:
    world.come_back(world.connection(alice), user=alice, now=now)
    AuthorizationRequest.objects.all().delete()
    assert sweep(hours=0.5) == 0
    assert ClientRegistration.objects.get().status == "active"


def test_one_that_was_reset_stays_as_long_as_tokens_need_it(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    assert reset_registration(world.server(), actor=alice) == 1
    assert sweep() == 0
    assert world.authorization_server.deletions == []

    revoke_connection(connection, actor=alice, reason="", now=now)
    assert sweep() == 1
    assert world.authorization_server.deletions == ["client-1"]


def test_one_that_was_reset_a_moment_ago_is_not_deleted_under_somebody_who_is_signing_in(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    revoke_connection(connection, actor=alice, reason="", now=now)
    reset_registration(world.server(), actor=alice)
    assert sweep(hours=0.1) == 0
    assert ClientRegistration.objects.exists()


def test_an_unfinished_sign_in_keeps_its_registration(world: World, alice: User, now: datetime) -> None:
    world.come_back(world.connection(alice), user=alice, now=now)
    reset_registration(world.server(), actor=alice)
    assert sweep() == 0
    assert world.authorization_server.deletions == []


def test_with_a_server_go_first_its_grants_and_then_its_registrations(
    world: World, connection: Connection, administrator: User, now: datetime
) -> None:
    delete_server(connection.server, actor=administrator, confirmed=True)
    assert world.authorization_server.revocations == []
    assert set(Revocation.objects.values_list("kind", flat=True)) == {"grant", "registration"}
    world.authorization_server.revocation_answer = Answer(503)
    revoke_due(now=timezone.now())
    assert world.authorization_server.deletions == []
    world.authorization_server.revocation_answer = None
    revoke_due(now=timezone.now() + timedelta(hours=1))
    assert len(world.authorization_server.revocations) == 3
    assert world.authorization_server.deletions == ["client-1"]
    assert not Revocation.objects.waiting().exists()


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(204), "revoked"),
        (Answer(401), "revoked"),
        (Answer(404), "revoked"),
        (Answer(405), "unsupported"),
        (Answer(403), "unsupported"),
        (Answer(503), ""),
        (Answer(302, "", {"Location": "https://evil.example"}), ""),
    ],
)
def test_what_the_service_says_to_a_deletion(
    world: World, connection: Connection, administrator: User, answer: Answer, outcome: str
) -> None:
    world.authorization_server.deletion_answer = answer
    delete_server(connection.server, actor=administrator, confirmed=True)
    for _ in range(2):
        revoke_due(now=timezone.now())
    assert Revocation.objects.get(kind="registration").outcome == outcome
    assert not world.internet.calls_to("evil.example")


@pytest.mark.parametrize(
    "uri", ["https://evil.example/register/client-1", "http://as.example/register/1", "/register/1"]
)
def test_an_address_that_is_not_the_issuers_is_never_told_anything(
    world: World, alice: User, administrator: User, now: datetime, uri: str
) -> None:
    world.authorization_server.registration_overrides = {"registration_client_uri": uri}
    connection = world.connect(alice, now=now)
    delete_server(connection.server, actor=administrator, confirmed=True)
    assert not Revocation.objects.filter(kind="registration").exists()


def test_a_registration_without_an_address_to_delete_it_at_is_only_forgotten(
    world: World, alice: User, administrator: User, now: datetime
) -> None:
    world.authorization_server.registration_overrides = {"registration_access_token": None}
    connection = world.connect(alice, now=now)
    delete_server(connection.server, actor=administrator, confirmed=True)
    assert not Revocation.objects.filter(kind="registration").exists()
    assert not ClientRegistration.objects.exists()


def test_what_was_registered_for_a_server_that_was_deleted_meanwhile_is_given_up_there(
    world: World, alice: User, now: datetime
) -> None:
    connection, service = world.connection(alice), world.authorization_server

    def registered_too_late(call: Call) -> Answer:
        answer = service(call)
        if (call.method, call.path) == ("POST", "/register"):
            connection.server.delete()
        return answer

    world.internet[service.origin] = registered_too_late
    with pytest.raises(InvalidRequestError):
        start_authorization(connection, user=alice, now=now)
    revoke_due(now=timezone.now())
    assert service.deletions == ["client-1"]
