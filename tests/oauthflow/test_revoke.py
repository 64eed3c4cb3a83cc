"""Disconnecting: it ends here at once, whatever the service says; the service is told once while somebody waits."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.contrib.auth.models import User

from audit.models import AuditRecord
from connections.models import ClientRegistration, Connection, FlowTrace, McpServer, Revocation, TokenSet
from connections.revocations import end_grants
from connections.sealing import Ciphertext
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.revocation_outbox import revoke_due
from oauthflow.flows.revoke import revoke_connection
from oauthflow.models import Event
from oauthflow.protocol.errors import AuthorizationRequiredError
from oauthflow.protocol.secret import Secret
from tests.fakes.internet import Answer, Call
from tests.fakes.world import World


@pytest.fixture
def connection(world: World, alice: User, now: datetime) -> Connection:
    return world.connect(alice, now=now)


def told() -> list[str]:
    """What the audit record says: first of here, then of the service."""
    found = AuditRecord.objects.filter(event="credentials.revoked").order_by("sequence")
    return [str(entry.details.get("revoked_upstream") or entry.details["outcome"]) for entry in found]


def test_both_tokens_are_revoked_the_grant_first_and_then_forgotten(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    tokens = TokenSet.objects.get()
    access, refresh = tokens.access_token_sealed.reveal().reveal(), tokens.refresh_token_sealed.reveal().reveal()

    assert revoke_connection(connection, actor=alice, reason="left the team", now=now)

    sent = [(one["token"], one["token_type_hint"]) for one in world.authorization_server.revocations]
    assert sent == [(refresh, "refresh_token"), (access, "access_token")]
    assert (connection.status, connection.reason, connection.granted_scopes) == ("revoked", "left the team", "")
    assert not TokenSet.objects.exists()
    assert ClientRegistration.objects.exists()
    assert told() == ["queued", "revoked"]
    with pytest.raises(AuthorizationRequiredError) as caught:
        usable_access_token(connection, now=now)
    assert caught.value.reason == "left the team"


def test_it_has_ended_here_before_anything_is_sent(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    seen = []

    def look(call: Call) -> Answer:
        seen.append((Connection.objects.get().status, TokenSet.objects.count()))
        return world.authorization_server(call)

    world.internet["https://as.example"] = look
    revoke_connection(connection, actor=alice, reason="", now=now)
    assert seen == [("revoked", 0)] * 2


def test_a_disconnect_is_one_event_however_often_the_service_is_told(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    world.authorization_server.revocation_answer = Answer(503)
    revoke_connection(connection, actor=alice, reason="", now=now)
    world.authorization_server.revocation_answer = None
    row = Revocation.objects.get()
    revoke_due(now=row.give_up_at)
    assert told() == ["queued", "revoked"]
    assert Event.objects.filter(event_type="credentials.revoked").count() == 1


@pytest.mark.parametrize(
    "answer",
    [Answer(500), Answer(503), Answer(401, {"error": "invalid_client"}), Answer(302, "", {"Location": "https://evil.example"})],
)  # fmt: skip
def test_a_server_that_does_not_revoke_keeps_nobody_connected(
    world: World, connection: Connection, alice: User, now: datetime, answer: Answer
) -> None:
    world.authorization_server.revocation_answer = answer

    assert not revoke_connection(connection, actor=alice, reason="", now=now)

    assert not TokenSet.objects.exists()
    assert told() == ["queued"]
    assert (Revocation.objects.get().attempts, Revocation.objects.get().finished_at) == (1, None)
    assert FlowTrace.objects.filter(kind="revoke", ok=False).count() == 1
    assert not world.internet.calls_to("evil.example")


def test_without_a_revocation_endpoint_the_tokens_are_only_forgotten(world: World, alice: User, now: datetime) -> None:
    world.authorization_server.offers_revocation = False
    connection = world.connect(alice, now=now)

    assert revoke_connection(connection, actor=alice, reason="", now=now)

    assert (connection.status, told()) == ("revoked", ["unsupported"])
    assert not Revocation.objects.exists()


def test_what_is_not_there_can_be_disconnected_too(world: World, alice: User, now: datetime) -> None:
    connection = world.connection(alice)
    assert revoke_connection(connection, actor=alice, reason="", now=now)

    assert connection.status == "revoked"
    assert world.internet.calls == []


def test_a_token_that_does_not_open_is_forgotten_without_being_sent(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    TokenSet.objects.update(refresh_token_sealed=Ciphertext("gibberish"))

    revoke_connection(connection, actor=alice, reason="", now=now)

    assert world.authorization_server.revocations == []
    assert told() == ["failed: credential_unreadable"]


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
    end_grants([connection], actor=alice, reason="x" * 300, now=now)
    assert len(connection.reason) == 200

    again = world.connect(alice, now=now)

    assert (again.pk, again.status, again.reason) == (connection.pk, "active", "")
    assert usable_access_token(again, now=now).access_token
