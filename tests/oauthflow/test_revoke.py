"""Disconnecting: the authorization server is told, and here nothing is left in any case."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.contrib.auth.models import User

from audit.models import AuditRecord
from connections.models import ClientRegistration, Connection, FlowTrace, McpServer, TokenSet
from connections.sealing import Ciphertext
from connections.services import forget_grant
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.refresh import refresh_connection
from oauthflow.flows.revoke import revoke_connection
from oauthflow.protocol.errors import AuthorizationRequiredError
from oauthflow.protocol.secret import Secret
from tests.fakes.internet import Answer, Call
from tests.fakes.world import World
from tests.faults import fault


@pytest.fixture
def connection(world: World, alice: User, now: datetime) -> Connection:
    return world.connect(alice, now=now)


def upstream() -> str:
    entry = AuditRecord.objects.get(event="credentials.revoked")
    return str(entry.details["revoked_upstream"])


def test_both_tokens_are_revoked_the_grant_first_and_then_forgotten(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    tokens = TokenSet.objects.get()
    access, refresh = tokens.access_token_sealed.reveal().reveal(), tokens.refresh_token_sealed.reveal().reveal()

    revoke_connection(connection, actor=alice, reason="left the team", now=now)

    sent = [(one["token"], one["token_type_hint"]) for one in world.authorization_server.revocations]
    assert sent == [(refresh, "refresh_token"), (access, "access_token")]
    assert (connection.status, connection.reason, connection.granted_scopes) == ("revoked", "left the team", "")
    assert not TokenSet.objects.exists()
    assert ClientRegistration.objects.exists()
    assert upstream() == "yes"
    with pytest.raises(AuthorizationRequiredError) as caught:
        usable_access_token(connection, now=now)
    assert caught.value.reason == "left the team"


@pytest.mark.parametrize(
    "answer",
    [Answer(500), Answer(503), Answer(401, {"error": "invalid_client"}), Answer(302, "", {"Location": "https://evil.example"})],
)  # fmt: skip
def test_a_server_that_does_not_revoke_keeps_nobody_connected(
    world: World, connection: Connection, alice: User, now: datetime, answer: Answer
) -> None:
    world.authorization_server.revocation_answer = answer

    revoke_connection(connection, actor=alice, reason="", now=now)

    assert not TokenSet.objects.exists()
    assert upstream().startswith("failed: ")
    assert FlowTrace.objects.filter(kind="revoke", ok=False).count() == 1
    assert not world.internet.calls_to("evil.example")


def test_without_a_revocation_endpoint_the_tokens_are_only_forgotten(world: World, alice: User, now: datetime) -> None:
    world.authorization_server.offers_revocation = False
    connection = world.connect(alice, now=now)

    revoke_connection(connection, actor=alice, reason="", now=now)

    assert (connection.status, upstream()) == ("revoked", "unsupported")


def test_what_is_not_there_can_be_disconnected_too(world: World, alice: User, now: datetime) -> None:
    connection = revoke_connection(world.connection(alice), actor=alice, reason="", now=now)

    assert connection.status == "revoked"
    assert world.internet.calls == []


def test_a_token_that_does_not_open_is_forgotten_without_being_sent(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    TokenSet.objects.update(refresh_token_sealed=Ciphertext("gibberish"))

    revoke_connection(connection, actor=alice, reason="", now=now)

    assert world.authorization_server.revocations == []
    assert upstream() == "failed: credential_unreadable"


def test_the_secret_of_a_replaced_client_is_not_sent(world: World, alice: User, now: datetime) -> None:
    server = world.server(client_id="first")
    server.client_secret_sealed = Secret("first-secret")
    server.save()
    connection = world.connect(alice, now=now)
    McpServer.objects.update(client_id="second")

    revoke_connection(Connection.objects.get(pk=connection.pk), actor=alice, reason="", now=now)

    assert world.authorization_server.revocations == []
    assert not TokenSet.objects.exists()


def test_after_a_disconnect_the_same_connection_can_be_made_again(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    forget_grant(connection, actor=alice, reason="x" * 300, revoked_upstream="no")
    assert len(connection.reason) == 200

    again = world.connect(alice, now=now)

    assert (again.pk, again.status, again.reason) == (connection.pk, "active", "")
    assert usable_access_token(again, now=now).access_token


@fault("F23")
def test_tokens_that_a_refresh_stores_meanwhile_are_revoked_as_well(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    def refresh_first(call: Call) -> Answer:
        if call.path == "/revoke" and len(world.authorization_server.refresh_requests) == 0:
            refresh_connection(Connection.objects.get(), now=now, trigger="use")
        return world.authorization_server(call)

    world.internet["https://as.example"] = refresh_first

    revoke_connection(connection, actor=alice, reason="", now=now)

    assert len(world.authorization_server.revocations) == 4
    assert world.authorization_server.refresh_tokens == {}
    assert not TokenSet.objects.exists()
