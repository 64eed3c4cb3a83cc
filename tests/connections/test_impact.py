"""What a confirmation says about who loses what is counted, not guessed."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from authserver.models.token_family import clients_acting_for
from connections.api_tokens import issue_api_token, revoke_api_token
from connections.impact import impact_of, register_clients
from connections.models import Connection, McpServer, ServerDiscovery
from connections.models.api_token import ApiScope
from connections.server_impact import impact_of_deletion

pytestmark = pytest.mark.django_db


@pytest.fixture
def server(db: None) -> McpServer:
    return McpServer.objects.create(slug="notes", name="Notes", url="https://notes.example.com/mcp")


def held(server: McpServer, user: User | None, *, status: str = "active", label: str = "") -> Connection:
    return Connection.objects.create(server=server, user=user, status=status, label=label)


def program(user: User, *scopes: str) -> None:
    issue_api_token(user, scopes=scopes or [ApiScope.TOKENS_RELEASE], name="editor", now=timezone.now())


def sentence(*connections: Connection) -> str:
    return impact_of(connections, now=timezone.now()).sentence


def test_owners_and_their_programs_are_counted_once(server: McpServer, alice: User, bob: User) -> None:
    program(alice)
    program(alice, ApiScope.TOOLS_CALL)
    program(bob)
    program(bob, ApiScope.SERVERS_READ)
    mine = [held(server, alice), held(server, alice, label="work"), held(server, bob)]
    assert sentence(*mine) == "3 clients and 2 people will lose access to Notes at once."


def test_programs_that_cannot_act_any_more_do_not_count(server: McpServer, alice: User) -> None:
    now = timezone.now()
    token = issue_api_token(alice, scopes=[ApiScope.TOOLS_CALL], name="old", now=now)
    revoke_api_token(token.row, now=now)
    issue_api_token(
        alice, scopes=[ApiScope.TOOLS_CALL], name="late", now=now - timedelta(days=2), lifetime=timedelta(days=1)
    )
    assert sentence(held(server, alice)) == "1 person will lose access to Notes at once."


@pytest.mark.parametrize("status", ["pending", "revoked"])
def test_what_holds_no_grant_costs_nobody_anything(server: McpServer, alice: User, status: str) -> None:
    assert sentence(held(server, alice, status=status)) == "Nobody loses anything: no access is stored."


def test_a_shared_connection_concerns_everybody_who_may_use_the_server(
    server: McpServer, alice: User, bob: User
) -> None:
    shared = held(server, None)
    User.objects.create_user("gone", is_active=False)
    assert sentence(shared).startswith("2 people")
    server.users.add(alice)
    assert sentence(shared).startswith("1 person")
    group = Group.objects.create(name="team")
    group.user_set.add(alice, bob)
    server.groups.add(group)
    assert sentence(shared).startswith("2 people")


def test_servers_are_named_as_long_as_they_are_few(alice: User) -> None:
    servers = [McpServer.objects.create(slug=name.lower(), name=name, url="https://x.example") for name in "DCBA"]
    assert sentence(*(held(one, alice) for one in servers[1:])).endswith("lose access to A, B and C at once.")
    assert sentence(*(held(one, alice, label="x") for one in servers)).endswith("lose access to 4 servers at once.")


def test_clients_of_the_authorization_server_count_too(
    server: McpServer, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connections.impact._counters", {})
    register_clients("other", lambda people, now: 5 if set(people) == {alice.pk} else 0)
    assert sentence(held(server, alice)) == "5 clients and 1 person will lose access to Notes at once."
    assert clients_acting_for([alice.pk], timezone.now()) == 0


def test_the_confirmations_in_the_admin_say_it(
    server: McpServer, alice: User, administrator: User, now: datetime
) -> None:
    client = Client()
    client.force_login(administrator)
    program(alice)
    connection = held(server, alice)
    ServerDiscovery.objects.create(server=server, issuer="https://old.example", new_issuer="https://new.example")
    words = "1 client and 1 person will lose access to Notes at once."
    assert impact_of_deletion(server).startswith(words)
    for address in (
        f"connections/mcpserver/{server.pk}/delete/",
        f"connections/mcpserver/{server.pk}/change/",
        f"connections/connection/revoke-all/{server.pk}/",
        f"connections/connection/{connection.pk}/delete/",
        f"auth/user/{alice.pk}/delete/",
    ):
        assert words in client.get(f"/admin/{address}").content.decode(), address
