"""An MCP server names another authorization server: nothing of ours goes there until somebody approves. U11."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User

from audit.models import AuditRecord
from connections.models import Connection, ServerDiscovery, TokenSet
from connections.server_changes import change_server
from oauthflow.flows import discover as discover_module
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.check_server import check_server
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.flows.discover import Discovered
from oauthflow.flows.keep_discovery import approve_issuer_change
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.flows.report_challenge import report_challenge
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.models import Event
from oauthflow.protocol.errors import IssuerChangedError
from tests.fakes.authorization_server import FakeAuthorizationServer
from tests.fakes.mcp_server import FakeMcpServer
from tests.fakes.world import World
from tests.requirements import requirement

WELL_KNOWN = "/.well-known/oauth-authorization-server"


@pytest.fixture
def connection(world: World, alice: User, now: datetime) -> Connection:
    world.authorization_server.marker = "MARKED"
    world.authorization_server.auth_methods = ["client_secret_post"]
    return world.connect(alice, now=now)


@pytest.fixture
def new(world: World, connection: Connection) -> FakeAuthorizationServer:
    """The server has moved: its metadata names this one from now on."""
    other = FakeAuthorizationServer(issuer="https://new.example")
    world.internet["https://new.example"] = other
    world.mcp_server.issuers = ["https://new.example"]
    return other


def notice(connection: Connection, world: World, *, user: User, now: datetime) -> None:
    with pytest.raises(IssuerChangedError):
        report_challenge(connection, user=user, status=401, www_authenticate=world.mcp_server.challenge(), now=now)


def paths_at(world: World, host: str) -> list[str]:
    return [call.path for call in world.internet.calls_to(host)]


@requirement("R-19", "D-15", "T-02")
def test_after_a_move_the_new_host_is_sent_nothing_and_the_old_grant_rests(
    world: World, connection: Connection, new: FakeAuthorizationServer, alice: User, now: datetime
) -> None:
    notice(connection, world, user=alice, now=now)

    over = now + timedelta(hours=2)
    assert refresh_due(now=over) == {"refreshed": 0, "failed": 0}
    with pytest.raises(IssuerChangedError):
        usable_access_token(connection, now=over)
    with pytest.raises(IssuerChangedError):
        start_authorization(connection, user=alice, now=over)
    assert set(paths_at(world, "new.example")) == {WELL_KNOWN}
    assert not any("MARKED" in f"{call.headers} {call.body}" for call in world.internet.calls_to("new.example"))
    assert TokenSet.objects.exists()
    assert AuditRecord.objects.filter(event="issuer.changed").count() == 1


@requirement("R-18", "R-19", "D-15")
def test_after_approval_everybody_signs_in_there_with_a_client_of_its_own(
    world: World, connection: Connection, new: FakeAuthorizationServer, alice: User, administrator: User, now: datetime
) -> None:
    notice(connection, world, user=alice, now=now)
    assert approve_issuer_change(world.server(), actor=administrator, now=now)
    assert not approve_issuer_change(world.server(), actor=administrator, now=now)
    assert not TokenSet.objects.exists()
    connection.refresh_from_db()
    assert (connection.status, connection.reason) == ("reauth_required", "issuer_changed")

    old, world.authorization_server = world.authorization_server, new
    connection = world.connect(alice, now=now)

    assert (connection.status, connection.issuer) == ("active", "https://new.example")
    assert len(new.registrations) == len(old.registrations) == 1
    assert TokenSet.objects.get().token_endpoint == "https://new.example/token"
    entry = AuditRecord.objects.get(event="issuer.approved")
    assert entry.details == {"old_issuer": "https://as.example", "new_issuer": "https://new.example"}


def test_another_host_for_the_token_endpoint_of_the_same_issuer_is_a_move(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    world.authorization_server.metadata_overrides = {"token_endpoint": "https://elsewhere.example/token"}

    notice(connection, world, user=alice, now=now)

    assert ServerDiscovery.objects.get().new_issuer == "https://as.example"
    assert paths_at(world, "elsewhere.example") == []


def test_a_server_that_moves_back_needs_no_approval_for_new_sign_ins(
    world: World, connection: Connection, new: FakeAuthorizationServer, alice: User, now: datetime
) -> None:
    notice(connection, world, user=alice, now=now)
    world.mcp_server.issuers = ["https://as.example"]

    assert world.connect(alice, now=now).status == "active"
    assert ServerDiscovery.objects.get().new_issuer == ""


def test_a_server_that_moves_back_takes_up_every_grant_that_was_stopped(
    world: World, connection: Connection, new: FakeAuthorizationServer, alice: User, now: datetime
) -> None:
    notice(connection, world, user=alice, now=now)
    world.mcp_server.issuers = ["https://as.example"]
    assert check_server(world.server(), user=None, now=now).code == ""

    connection.refresh_from_db()
    assert (connection.status, connection.reason) == ("active", "")
    assert refresh_due(now=now + timedelta(hours=2)) == {"refreshed": 1, "failed": 0}
    assert paths_at(world, "new.example") == [WELL_KNOWN]


def test_a_look_that_began_before_the_move_was_noticed_leaves_nobody_stopped(
    world: World,
    connection: Connection,
    new: FakeAuthorizationServer,
    alice: User,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = discover_module._ask

    def overtaken(*args: Any, **kwargs: Any) -> Discovered:
        monkeypatch.setattr(discover_module, "_ask", ask)
        notice(connection, world, user=alice, now=now)
        world.mcp_server.issuers = ["https://as.example"]
        return ask(*args, **kwargs)

    monkeypatch.setattr(discover_module, "_ask", overtaken)
    assert check_server(world.server(), user=None, now=now).code == ""

    connection.refresh_from_db()
    assert (connection.status, ServerDiscovery.objects.get().new_issuer) == ("active", "")


def test_who_still_waits_when_others_are_taken_up_is_not_told_again(
    world: World, connection: Connection, new: FakeAuthorizationServer, alice: User, bob: User, now: datetime
) -> None:
    world.mcp_server.issuers = ["https://as.example"]
    world.connect(bob, now=now)
    TokenSet.objects.filter(connection=connection).update(resource="https://before.example/mcp")
    world.mcp_server.issuers = ["https://new.example"]
    notice(connection, world, user=alice, now=now)
    told = Event.objects.filter(event_type="issuer.changed")
    assert told.count() == 2

    world.mcp_server.issuers = ["https://as.example"]
    check_server(world.server(), user=None, now=now)
    assert set(Connection.objects.values_list("user__username", "status")) == {
        ("alice", "issuer_changed"),
        ("bob", "active"),
    }
    assert told.count() == 2


@pytest.mark.parametrize("changed", [{"resource": "https://before.example/mcp"}, {"issuer": "https://before.example"}])
def test_a_server_that_moves_back_takes_up_no_grant_for_another_target(
    world: World,
    connection: Connection,
    new: FakeAuthorizationServer,
    alice: User,
    now: datetime,
    changed: dict[str, str],
) -> None:
    notice(connection, world, user=alice, now=now)
    TokenSet.objects.update(**changed)
    world.mcp_server.issuers = ["https://as.example"]
    check_server(world.server(), user=None, now=now)

    connection.refresh_from_db()
    assert connection.status == "issuer_changed"


@pytest.mark.parametrize("resource", ["", "https://mcp.example/mcp"])
def test_a_server_that_was_changed_since_it_moved_takes_up_no_grant(
    world: World, connection: Connection, new: FakeAuthorizationServer, alice: User, now: datetime, resource: str
) -> None:
    notice(connection, world, user=alice, now=now)
    TokenSet.objects.update(resource=resource)
    server = world.server()
    server.resource_mode, server.resource = ("custom", resource) if resource else ("omit", "")
    other = FakeMcpServer(url="https://other.example/mcp", publishes_metadata=bool(resource), resource=resource)
    server.url, server.issuer = other.url, "https://as.example"
    world.internet["https://other.example"] = other
    change_server(server, actor=None, now=now, confirmed=True)
    assert check_server(world.server(), user=None, now=now).code == ""

    connection.refresh_from_db()
    assert connection.status == "issuer_changed"


def test_without_a_grant_there_is_nothing_to_approve(world: World, alice: User, now: datetime) -> None:
    start_authorization(world.connection(alice), user=alice, now=now)
    other = FakeAuthorizationServer(issuer="https://new.example")
    world.internet["https://new.example"] = other
    world.mcp_server.issuers = ["https://new.example"]

    started = start_authorization(world.connection(alice), user=alice, now=now, fresh=True)

    assert started.request.issuer == "https://new.example"
    assert len(other.registrations) == 1


def test_one_of_several_authorization_servers_that_is_in_use_stays_in_use(
    world: World, connection: Connection, new: FakeAuthorizationServer, alice: User, now: datetime
) -> None:
    world.mcp_server.issuers = ["https://new.example", "https://as.example"]

    started = start_authorization(connection, user=alice, now=now, fresh=True)

    assert started.request.issuer == "https://as.example"
    assert paths_at(world, "new.example") == []


def test_a_sign_in_that_was_under_way_ends_with_its_tokens_deleted_by_the_approval(
    world: World, connection: Connection, new: FakeAuthorizationServer, alice: User, administrator: User, now: datetime
) -> None:
    world.mcp_server.issuers = ["https://as.example"]
    params, cookies = world.come_back(connection, user=alice, now=now)
    world.mcp_server.issuers = ["https://new.example"]
    notice(connection, world, user=alice, now=now)
    complete_authorization(params=params, user=alice, cookies=cookies, now=now)

    approve_issuer_change(world.server(), actor=administrator, now=now)

    connection.refresh_from_db()
    assert (connection.status, TokenSet.objects.count()) == ("reauth_required", 0)
