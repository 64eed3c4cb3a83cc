"""The page of one connection: why it is as it is, what was tried, what ending it takes away, and who was told."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from connections.api_tokens import issue_api_token
from connections.models import Connection, Revocation, TokenSet
from connections.models.api_token import ApiScope
from connections.services import shared_connection
from oauthflow.flows.check_server import check_server
from oauthflow.flows.purge import purge_revocations
from oauthflow.flows.refresh import refresh_connection
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.flows.revocation_outbox import revoke_due
from oauthflow.protocol.errors import FlowError
from tests.fakes.internet import Answer
from tests.fakes.world import World


@pytest.fixture
def connection(world: World, alice: User) -> Connection:
    world.authorization_server.marker = "marked"
    return world.connect(alice, now=timezone.now())


def page_for(user: User, connection: Connection) -> str:
    client = Client()
    client.force_login(user)
    return client.get(f"/connections/{connection.pk}").content.decode()


def test_the_owner_reads_why_and_what_was_tried_and_no_secret(
    world: World, connection: Connection, alice: User
) -> None:
    secrets = [world.authorization_server.marker, *world.authorization_server.refresh_tokens]
    world.authorization_server.refresh_answer = Answer(503, {"error": "<b>their words</b>"})
    with pytest.raises(FlowError):
        refresh_connection(connection, now=timezone.now(), trigger="request")
    page = page_for(alice, connection)
    assert "Connected, with trouble" in page
    assert 'data-code="temporarily_unavailable"' in page
    assert "Failed 1 time in a row" in page
    assert "Last attempts" in page
    assert "https://as.example/token" in page
    assert not [secret for secret in (*secrets, "their words") if secret in page]


def test_trouble_heals_by_itself_and_is_not_shown_any_more(world: World, connection: Connection, alice: User) -> None:
    world.authorization_server.refresh_answer = Answer(503)
    due = timezone.now() + timedelta(seconds=3000)
    assert refresh_due(now=due)["failed"] == 1
    connection.refresh_from_db()
    assert connection.status == "degraded"
    world.authorization_server.refresh_answer = None
    assert refresh_due(now=due + timedelta(hours=1))["refreshed"] == 1
    page = page_for(alice, connection)
    assert "with trouble" not in page
    assert "in a row" not in page


def test_a_renewal_is_no_sign_in(world: World, alice: User) -> None:
    signed_in = timezone.now() - timedelta(hours=2)
    connection = world.connect(alice, now=signed_in)
    refresh_connection(connection, now=timezone.now(), trigger="request")
    shown = re.search("<dt>Signed in</dt><dd>(.*?)</dd>", page_for(alice, connection))
    assert shown
    assert "2 hours ago" in shown[1]
    User.objects.filter(pk=alice.pk).update(is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(User.objects.get(pk=alice.pk))
    page = client.get(reverse("admin:connections_connection_change", args=(connection.pk,))).content.decode()
    shown = re.search(r"field-signed_in.*?readonly.*?</time>", page, re.DOTALL)
    assert shown
    assert "2 hours ago" in shown[0]


def test_attempts_of_a_server_are_for_who_looks_after_servers(
    world: World, connection: Connection, alice: User
) -> None:
    check_server(connection.server, user=alice, now=timezone.now())
    assert "Check of the server" not in page_for(alice, connection)
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    alice.user_permissions.add(Permission.objects.get(codename="view_mcpserver"))
    assert "Check of the server" in page_for(User.objects.get(pk=alice.pk), connection)


def test_attempts_of_a_shared_connection_are_for_who_manages_it(world: World, alice: User, bob: User) -> None:
    world.server(connection_policy="shared")
    shared = shared_connection(world.server())
    alice.user_permissions.add(Permission.objects.get(codename="manage_shared_connection"))
    world.come_back(shared, user=alice, now=timezone.now())
    assert "Last attempts" in page_for(alice, shared)
    assert "Last attempts" not in page_for(bob, shared)


def test_what_a_disconnect_takes_away_is_said_before(
    world: World, connection: Connection, alice: User, bob: User
) -> None:
    issue_api_token(alice, scopes=[ApiScope.TOOLS_CALL], name="editor", now=timezone.now())
    client = Client()
    client.force_login(alice)
    for address in (f"/connections/{connection.pk}", "/connections/"):
        words = "You and 1 client that acts for you will lose access to Notes at once."
        assert words in client.get(address).content.decode()
    Connection.objects.update(user=None)
    User.objects.filter(pk=alice.pk).update(is_superuser=True)
    shared = page_for(User.objects.get(pk=alice.pk), connection)
    assert "1 client and 2 people will lose access to Notes at once." in shared


def test_a_service_that_does_not_answer_is_shown_until_it_did(
    world: World, connection: Connection, alice: User
) -> None:
    world.authorization_server.revocation_answer = Answer(503)
    client = Client()
    client.force_login(alice)
    done = client.post(f"/connections/{connection.pk}/disconnect", follow=True).content.decode()
    assert "goes on telling it for a day" in done
    assert "has not confirmed the end of the access yet: 1 try" in page_for(alice, connection)
    revoke_due(now=Revocation.objects.get().give_up_at)
    assert "did not take the end of the access for a day" in page_for(alice, connection)
    purge_revocations(now=timezone.now() + timedelta(days=30))
    assert "did not take" not in page_for(alice, connection)


def test_a_reconnect_in_place_keeps_registration_label_and_id(world: World, alice: User) -> None:
    now = timezone.now()
    connection = world.connection(alice, label="work")
    world.connect(alice, now=now)
    before = Connection.objects.exclude(pk=connection.pk).get()
    client_id = TokenSet.objects.get().client_id
    world.connect(alice, now=now)
    assert (TokenSet.objects.get().connection_id, TokenSet.objects.get().client_id) == (before.pk, client_id)
    assert len(world.authorization_server.registrations) == 1
    connection.refresh_from_db()
    assert (connection.label, connection.status) == ("work", "pending")
