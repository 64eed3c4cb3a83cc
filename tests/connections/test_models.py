"""Reads of servers and connections: everybody sees what is theirs or open to them. Z01, Z06, Z07."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.db import IntegrityError, transaction

from connections.api_tokens import issue_api_token
from connections.models import ApiToken, ClientRegistration, Connection, McpServer, ServerDiscovery, TokenSet
from connections.models.api_token import ApiScope


def _slugs(user: User | AnonymousUser) -> set[str]:
    return set(McpServer.objects.usable_by(user).values_list("slug", flat=True))


def test_a_server_is_open_to_everybody_to_named_people_or_to_members_of_a_group(
    server: McpServer, alice: User, bob: User
) -> None:
    team = Group.objects.create(name="team")
    bob.groups.add(team)
    for slug in ("named", "grouped"):
        McpServer.objects.create(name=slug, slug=slug, url="https://x.example.com")
    McpServer.objects.get(slug="named").users.add(alice)
    McpServer.objects.get(slug="grouped").groups.add(team)
    assert _slugs(alice) == {"notes", "named"}
    assert _slugs(bob) == {"notes", "grouped"}


def test_an_inactive_server_is_open_to_nobody_and_a_deprecated_one_still_is(server: McpServer, alice: User) -> None:
    server.status = McpServer.Status.DEPRECATED
    server.save()
    assert _slugs(alice) == {"notes"}
    server.status = McpServer.Status.INACTIVE
    server.save()
    assert _slugs(alice) == set()


def test_an_unknown_or_deactivated_person_sees_nothing(server: McpServer, granted: Connection, alice: User) -> None:
    assert _slugs(AnonymousUser()) == set()
    assert not Connection.objects.visible_to(AnonymousUser()).exists()
    alice.is_active = False
    assert _slugs(alice) == set()


def test_a_person_sees_their_own_and_shared_connections_of_servers_open_to_them(
    server: McpServer, granted: Connection, alice: User, bob: User
) -> None:
    shared = Connection.objects.create(server=server, user=None)
    assert set(Connection.objects.visible_to(alice)) == {granted, shared}
    assert set(Connection.objects.visible_to(bob)) == {shared}
    server.users.add(alice)
    assert set(Connection.objects.visible_to(bob)) == set()


@pytest.mark.parametrize("shared", [True, False])
def test_a_label_is_given_once_per_server_and_owner(server: McpServer, alice: User, shared: bool) -> None:
    owner = None if shared else alice
    Connection.objects.create(server=server, user=owner, label="work")
    Connection.objects.create(server=server, user=owner, label="home")
    with pytest.raises(IntegrityError), transaction.atomic():
        Connection.objects.create(server=server, user=owner, label="work")


def test_the_database_itself_refuses_a_metadata_lifetime_below_five_minutes(server: McpServer) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        McpServer.objects.update(metadata_ttl_minutes=4)


def test_one_registration_for_a_server_and_issuer_is_active(server: McpServer) -> None:
    fields = {"server": server, "issuer": "https://as.example.com", "client_id": "c", "auth_method": "none"}
    ClientRegistration.objects.create(**fields, status=ClientRegistration.Status.SUPERSEDED)
    ClientRegistration.objects.create(**fields)
    with pytest.raises(IntegrityError), transaction.atomic():
        ClientRegistration.objects.create(**fields)


def test_a_registration_is_usable_until_its_secret_expires_and_for_its_redirect_uri_only(
    server: McpServer, now: datetime
) -> None:
    registration = ClientRegistration(server=server, redirect_uri="https://us.example.com/callback")
    assert registration.is_usable(redirect_uri="https://us.example.com/callback", now=now)
    assert not registration.is_usable(redirect_uri="https://us.example.com/other", now=now)
    registration.client_secret_expires_at = now
    assert not registration.is_usable(redirect_uri="https://us.example.com/callback", now=now)


def test_tokens_are_due_only_for_live_connections_that_rest_from_no_failure(granted: Connection, now: datetime) -> None:
    TokenSet.objects.update(refresh_due_at=now)
    assert list(Connection.objects.due_for_refresh(now=now)) == [granted]
    assert not Connection.objects.due_for_refresh(now=now - timedelta(seconds=1)).exists()
    TokenSet.objects.update(next_attempt_at=now + timedelta(seconds=1))
    assert not Connection.objects.due_for_refresh(now=now).exists()
    TokenSet.objects.update(next_attempt_at=now)
    Connection.objects.update(status=Connection.Status.DEGRADED)
    assert Connection.objects.due_for_refresh(now=now).exists()
    Connection.objects.update(status=Connection.Status.ISSUER_CHANGED)
    assert not Connection.objects.due_for_refresh(now=now).exists()


def test_an_api_token_is_valid_until_the_instant_it_expires(alice: User, now: datetime) -> None:
    issue_api_token(alice, scopes=[ApiScope.TOOLS_CALL], name="t", now=now, lifetime=timedelta(hours=1))
    assert ApiToken.objects.valid(now=now + timedelta(minutes=59)).exists()
    assert not ApiToken.objects.valid(now=now + timedelta(hours=1)).exists()


def test_a_discovery_is_fresh_until_its_time_is_over(server: McpServer, now: datetime) -> None:
    found = ServerDiscovery(server=server, authorization_server_id="6b657973-0000-4000-8000-000000000001")
    assert not found.is_fresh(now=now)
    found.expires_at = now + timedelta(seconds=1)
    assert found.is_fresh(now=now)
    assert not found.is_fresh(now=now + timedelta(seconds=1))
