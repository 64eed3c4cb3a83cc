"""Connections in the admin: seen by state, revoked, and never deleted before they are revoked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audit.models import AuditRecord
from connections.models import ApiToken, Connection, FlowTrace, McpServer, Revocation, TokenSet
from connections.services import shared_connection
from oauthflow.flows.revoke import revoke_connection
from oauthflow.models import AuthorizationRequest
from tests.fakes.internet import Answer
from tests.fakes.world import World

Permit = Callable[..., User]
LIST = "/admin/connections/connection/"


@pytest.fixture
def admin(administrator: User) -> Client:
    client = Client()
    client.force_login(administrator)
    return client


@pytest.fixture
def connected(world: World, alice: User, now: datetime) -> Connection:
    return world.connect(alice, now=now)


def revoked_upstream() -> list[str]:
    found = AuditRecord.objects.filter(event="credentials.revoked").order_by("sequence")
    return [entry.details["revoked_upstream"] for entry in found]


@pytest.mark.parametrize("status", list(Connection.Status))
def test_every_state_has_its_words(admin: Client, server: McpServer, alice: User, status: Connection.Status) -> None:
    Connection.objects.create(server=server, user=alice, status=status, reason="invalid_grant")
    page = admin.get(LIST, {"status__exact": status.value}).content.decode()
    assert f"{status.label}</span>" in page
    assert "The access has ended. Please reconnect." in page


@pytest.mark.parametrize(("owner", "count"), [("", 2), ("person", 1), ("shared", 1)])
def test_connections_are_filtered_by_owner(
    admin: Client, server: McpServer, alice: User, owner: str, count: int
) -> None:
    Connection.objects.create(server=server, user=alice)
    shared_connection(server)
    assert admin.get(LIST, {"owner": owner} if owner else {}).context["cl"].result_count == count


@pytest.mark.parametrize(
    ("failures", "refresh", "words"),
    [(0, True, "Renews itself"), (3, True, "Failed 3 times in a row"), (0, False, "Does not renew itself")],
)
def test_a_connection_says_how_it_renews(
    admin: Client, connected: Connection, failures: int, refresh: bool, words: str
) -> None:
    TokenSet.objects.update(refresh_failures=failures)
    if not refresh:
        TokenSet.objects.update(refresh_token_sealed="")
    assert words in admin.get(f"{LIST}{connected.pk}/change/").content.decode()


def test_a_connection_without_tokens_offers_nothing_to_revoke(admin: Client, server: McpServer, alice: User) -> None:
    connection = Connection.objects.create(server=server, user=alice)
    page = admin.get(f"{LIST}{connection.pk}/change/").content.decode()
    assert "no tokens stored" in page
    assert "Revoke this connection" not in page


def test_deleting_a_connection_revokes_it_first(admin: Client, connected: Connection) -> None:
    assert "Revoke and delete" in admin.get(f"{LIST}{connected.pk}/delete/").content.decode()
    admin.post(f"{LIST}{connected.pk}/delete/", {"post": "yes"})
    assert not Connection.objects.exists()
    assert revoked_upstream() == ["queued"]


def test_selected_connections_are_revoked_after_one_question(admin: Client, connected: Connection) -> None:
    chosen = {"action": "revoke_selected", "_selected_action": [str(connected.pk)]}
    asked = admin.post(LIST, chosen).content.decode()
    assert "1 connection, 1 person." in asked
    assert revoked_upstream() == []
    done = admin.post(LIST, {**chosen, "confirmed": "yes", "reason": "left"}, follow=True).content.decode()
    assert "1 connection is revoked" in done
    connected.refresh_from_db()
    assert (connected.status, connected.reason) == ("revoked", "left")
    assert revoked_upstream() == ["queued"]


def test_everybody_is_disconnected_from_a_server_after_one_question(
    admin: Client, world: World, connected: Connection, bob: User, now: datetime
) -> None:
    world.connect(bob, now=now + timedelta(seconds=1))
    shared_connection(connected.server)
    address = reverse("admin:connections_connection_revoke_all", args=(connected.server.pk,))
    assert "3 connections, 2 people, 1 shared." in admin.get(address).content.decode()
    assert "3 connections, 2 people" in admin.post(address).content.decode()
    answer = admin.post(address, {"confirmed": "yes"})
    assert answer.headers["Location"] == f"/admin/connections/mcpserver/{connected.server.pk}/change/"
    assert revoked_upstream()[:2] == ["queued", "queued"]
    assert set(Connection.objects.values_list("status", flat=True)) == {"revoked"}


def test_what_is_revoked_already_is_not_revoked_again(admin: Client, server: McpServer, alice: User) -> None:
    Connection.objects.create(server=server, user=alice, status="revoked")
    address = reverse("admin:connections_connection_revoke_all", args=(server.pk,))
    assert "0 connections are revoked" in admin.post(address, {"confirmed": "yes"}, follow=True).content.decode()
    assert revoked_upstream() == []


def test_revoking_takes_its_permission(alice: User, permit: Permit, server: McpServer, bob: User) -> None:
    connection = Connection.objects.create(server=server, user=bob, status="active")
    alice.is_staff = True
    alice.save()
    client = Client()
    client.force_login(permit(alice, "view_connection", "view_mcpserver"))
    address = reverse("admin:connections_connection_revoke_all", args=(server.pk,))
    assert client.post(address, {"confirmed": "yes"}).status_code == 403
    assert client.post(f"{LIST}{connection.pk}/delete/", {"post": "yes"}).status_code == 403
    client.post(LIST, {"action": "revoke_selected", "_selected_action": [str(connection.pk)], "confirmed": "yes"})
    connection.refresh_from_db()
    assert connection.status == "active"
    assert "Revoke" not in client.get(f"{LIST}{connection.pk}/change/").content.decode()


def test_deleting_a_user_revokes_their_connections_first(admin: Client, connected: Connection, alice: User) -> None:
    asked = admin.get(f"/admin/auth/user/{alice.pk}/delete/").content.decode()
    assert "doesn't have permission" not in asked
    admin.post(f"/admin/auth/user/{alice.pk}/delete/", {"post": "yes"})
    assert not User.objects.filter(username="alice").exists()
    assert revoked_upstream() == ["queued"]


def test_deleting_several_users_says_who_loses_what_and_revokes_their_connections_first(
    admin: Client, connected: Connection, alice: User, bob: User
) -> None:
    chosen = {"action": "delete_selected", "_selected_action": [alice.pk, bob.pk]}
    asked = admin.post("/admin/auth/user/", chosen).content.decode()
    assert "1 person will lose access to" in asked
    assert "1 connection will be disconnected first" in asked
    assert revoked_upstream() == []
    admin.post("/admin/auth/user/", {**chosen, "post": "yes"})
    assert not User.objects.filter(pk__in=[alice.pk, bob.pk]).exists()
    assert not Connection.objects.exists()
    assert revoked_upstream() == ["queued"]


def test_sign_ins_are_listed_without_their_secrets(admin: Client, connected: Connection) -> None:
    request = AuthorizationRequest.objects.get()
    for page in (
        "/admin/oauthflow/authorizationrequest/",
        f"/admin/oauthflow/authorizationrequest/{request.pk}/change/",
    ):
        shown = admin.get(page).content.decode()
        assert "Completed" in shown
        assert request.state_hash not in shown
        assert "gAAAA" not in shown


def test_everything_that_was_found_and_tried_can_be_looked_at(admin: Client, connected: Connection) -> None:
    server = connected.server
    trace, registration = FlowTrace.objects.all()[0], server.registrations.get()
    found = server.discovery.authorization_server
    pages = {
        "serverdiscovery": server.pk, "flowtrace": trace.pk, "clientregistration": registration.pk,
        "authorizationserver": found.pk,
    }  # fmt: skip
    for kind, pk in pages.items():
        shown = admin.get(reverse(f"admin:connections_{kind}_change", args=(pk,)))
        assert shown.status_code == 200
        assert "gAAAA" not in shown.content.decode()
        assert admin.get(reverse(f"admin:connections_{kind}_changelist")).status_code == 200


@pytest.mark.parametrize(("valid", "names"), [("", {"old", "new"}), ("yes", {"new"}), ("no", {"old"})])
def test_api_tokens_are_filtered_by_validity(
    admin: Client, alice: User, now: datetime, valid: str, names: set[str]
) -> None:
    ApiToken.objects.create(user=alice, name="old", token_hash="1", expires_at=now - timedelta(days=4000))
    ApiToken.objects.create(user=alice, name="new", token_hash="2")
    shown = admin.get("/admin/connections/apitoken/", {"valid": valid} if valid else {})
    assert {token.name for token in shown.context["cl"].result_list} == names


def test_what_services_were_told_is_listed_without_secrets(
    admin: Client, world: World, connected: Connection, alice: User
) -> None:
    world.authorization_server.revocation_answer = Answer(503)
    revoke_connection(connected, actor=alice, reason="left the team", now=timezone.now())
    row = Revocation.objects.get()
    listed = admin.get("/admin/connections/revocation/").content.decode()
    page = admin.get(f"/admin/connections/revocation/{row.pk}/change/").content.decode()
    assert "Not told yet" in listed
    assert "left the team" in page
    assert "https://as.example/revoke" in page
    for sealed in (row.refresh_token_sealed, row.access_token_sealed):
        assert sealed.reveal().reveal() not in page
        assert str.__str__(sealed.ciphertext) not in page
    assert admin.post(f"/admin/connections/revocation/{row.pk}/delete/", {"post": "yes"}).status_code == 403
