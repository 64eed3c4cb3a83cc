"""Changing servers: what follows for connections, secrets and the record. Z04, U12."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied, ValidationError
from pytest_django.fixtures import Settings

from audit.models import AuditRecord
from connections.leases import lease_for_refresh
from connections.models import AuthorizationServer, Connection, McpServer, ServerDiscovery, TokenSet
from connections.server_changes import TARGET_FIELDS, Access, change_server, create_server, delete_server
from connections.server_impact import ConfirmationRequiredError
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.secret import Secret

from .conftest import MARKER

NEW_TARGETS = {
    "url": "https://canary.example.net/mcp",
    "issuer": "https://canary.example.net",
    "revocation_endpoint": "https://canary.example.net/revoke",
    "accepted_issuer": "https://canary.example.net",
    "resource": "https://canary.example.net/mcp",
    "resource_mode": "omit",
}


def _with_secrets(server: McpServer) -> McpServer:
    server.client_id = "client"
    server.client_secret_sealed = Secret(MARKER)
    server.static_credential_sealed = Secret(MARKER)
    server.environment_sealed = Secret('{"KEY": "value"}')
    server.save()
    return McpServer.objects.get(pk=server.pk)


def test_creating_a_server_records_names_of_fields_and_no_values(administrator: User) -> None:
    server = McpServer(name="N", slug="n", url="https://n.example.com/mcp")
    server.client_secret_sealed = Secret(MARKER)
    create_server(server, actor=administrator, client="ci")
    entry = AuditRecord.objects.get()
    assert (entry.event, entry.server, entry.client) == ("server.created", "n", "ci")
    assert entry.actor == str(administrator.pk)
    assert set(entry.details["fields"]) == {"name", "slug", "url", "client_secret"}
    assert MARKER not in str(entry.details)


@pytest.mark.parametrize("slug", ["import", "export", "a b", "", "Ä"])
def test_a_slug_that_is_no_slug_or_an_address_of_ours_is_refused(administrator: User, slug: str) -> None:
    with pytest.raises(ValidationError):
        create_server(McpServer(name="N", slug=slug, url="https://n.example.com"), actor=administrator)
    assert not McpServer.objects.exists()
    assert not AuditRecord.objects.exists()


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/${SECRET_KEY}",
        "https://evil.example/{{ settings.SECRET_KEY }}",
        "https://evil.example/%(SECRET_KEY)s",
        "https://user:pass@mcp.example.com/",
        "file:///etc/passwd",
        "",
    ],
)
def test_an_address_with_a_placeholder_or_a_user_name_is_refused(administrator: User, url: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        create_server(McpServer(name="N", slug="n", url=url), actor=administrator)
    assert set(refusal.value.message_dict) == {"url"}


def test_a_metadata_lifetime_below_five_minutes_is_refused(
    server: McpServer, administrator: User, now: datetime
) -> None:
    server.metadata_ttl_minutes = 4
    with pytest.raises(ValidationError):
        change_server(server, actor=administrator, now=now)
    server.metadata_ttl_minutes = 5
    assert change_server(server, actor=administrator, now=now).fields == {"metadata_ttl_minutes"}


def test_nobody_changes_servers_without_the_permission(server: McpServer, alice: User, now: datetime) -> None:
    server.name = "Other"
    with pytest.raises(PermissionDenied):
        change_server(server, actor=alice, now=now)
    with pytest.raises(PermissionDenied):
        create_server(McpServer(name="N", slug="n", url="https://n.example.com"), actor=alice)
    with pytest.raises(PermissionDenied):
        delete_server(server, actor=alice, confirmed=True)
    assert McpServer.objects.get().name == "Notes"


def test_only_a_superuser_goes_on_without_a_promise_of_pkce(
    server: McpServer, alice: User, administrator: User, permit: Callable[..., User], now: datetime
) -> None:
    server.assume_pkce = True
    with pytest.raises(ValidationError):
        change_server(server, actor=permit(alice, "change_mcpserver"), now=now)
    assert change_server(server, actor=administrator, now=now).fields == {"assume_pkce"}


def test_a_change_without_a_difference_writes_nothing(server: McpServer, administrator: User, now: datetime) -> None:
    before = McpServer.objects.values().get()
    assert change_server(McpServer.objects.get(), actor=administrator, now=now).fields == frozenset()
    assert McpServer.objects.values().get() == before
    assert not AuditRecord.objects.exists()


def test_who_may_use_a_server_is_part_of_the_change(
    server: McpServer, administrator: User, alice: User, now: datetime
) -> None:
    team = Group.objects.create(name="team")
    change = change_server(server, actor=administrator, now=now, access=Access(users=[alice], groups=[team]))
    assert change.fields == {"users", "groups"}
    assert list(server.users.all()) == [alice]
    again = change_server(server, actor=administrator, now=now, access=Access(users=[alice], groups=[team]))
    assert again.fields == frozenset()


@pytest.mark.parametrize("field", sorted(NEW_TARGETS))
def test_a_new_target_of_a_connected_server_needs_its_own_permission(
    granted: Connection, alice: User, permit: Callable[..., User], now: datetime, field: str
) -> None:
    server = McpServer.objects.get()
    setattr(server, field, NEW_TARGETS[field])
    with pytest.raises(PermissionDenied):
        change_server(server, actor=permit(alice, "change_mcpserver"), now=now, confirmed=True)
    assert getattr(McpServer.objects.get(), field) != NEW_TARGETS[field]
    assert Connection.objects.get().status == "active"


@pytest.mark.parametrize("field", sorted(NEW_TARGETS))
def test_a_new_target_has_to_be_confirmed_and_then_stops_the_connections(
    granted: Connection, alice: User, permit: Callable[..., User], now: datetime, field: str
) -> None:
    actor = permit(alice, "change_mcpserver", "change_mcpserver_target")
    server = McpServer.objects.get()
    setattr(server, field, NEW_TARGETS[field])
    with pytest.raises(ConfirmationRequiredError) as refusal:
        change_server(server, actor=actor, now=now)
    assert "1 connection (1 person)" in refusal.value.impact
    assert Connection.objects.get().status == "active"
    change = change_server(server, actor=actor, now=now, confirmed=True)
    assert change.stopped_connections == 1
    connection = Connection.objects.get()
    assert (connection.status, connection.reason) == ("issuer_changed", "issuer_changed")
    entry = AuditRecord.objects.get()
    assert (entry.event, entry.details["fields"], entry.details["count"]) == ("server.changed", [field], 1)


def test_every_target_field_is_tried_above() -> None:
    # The identity provider is tried in tests/oauthflow/test_unattended_faces.py.
    assert TARGET_FIELDS - set(NEW_TARGETS) == {"authorization_endpoint", "token_endpoint", "identity_provider"}


def test_endpoints_set_by_hand_are_a_new_target_too(granted: Connection, administrator: User, now: datetime) -> None:
    server = McpServer.objects.get()
    server.issuer = server.authorization_endpoint = server.token_endpoint = "https://canary.example.net/x"
    with pytest.raises(ConfirmationRequiredError):
        change_server(server, actor=administrator, now=now)


def test_a_new_name_of_a_connected_server_needs_no_confirmation(
    granted: Connection, alice: User, permit: Callable[..., User], now: datetime
) -> None:
    server = McpServer.objects.get()
    server.name = "Other"
    change_server(server, actor=permit(alice, "change_mcpserver"), now=now)
    assert Connection.objects.get().status == "active"


def test_connections_that_hold_no_grant_stay_as_they_are(
    granted: Connection, bob: User, administrator: User, now: datetime
) -> None:
    Connection.objects.create(server=granted.server, user=bob)
    Connection.objects.create(server=granted.server, user=bob, label="old", status=Connection.Status.REVOKED)
    server = McpServer.objects.get()
    server.url = NEW_TARGETS["url"]
    assert change_server(server, actor=administrator, now=now, confirmed=True).stopped_connections == 1
    assert set(Connection.objects.values_list("status", flat=True)) == {"issuer_changed", "pending", "revoked"}


def test_stored_tokens_are_stopped_even_while_the_server_is_not_an_oauth_one(
    granted: Connection, administrator: User, now: datetime
) -> None:
    McpServer.objects.update(auth_type="none")
    server = McpServer.objects.get()
    server.url = NEW_TARGETS["url"]
    assert change_server(server, actor=administrator, now=now, confirmed=True).stopped_connections == 1


def test_what_was_discovered_at_the_old_target_is_asked_again_and_the_approved_issuer_stays(
    granted: Connection, administrator: User, now: datetime
) -> None:
    found = AuthorizationServer.objects.create(issuer="https://as.example.com", fetched_at=now)
    ServerDiscovery.objects.create(
        server=granted.server, authorization_server=found, issuer=found.issuer, expires_at=now + timedelta(days=1)
    )
    server = McpServer.objects.get()
    server.url = NEW_TARGETS["url"]
    change_server(server, actor=administrator, now=now, confirmed=True)
    kept = ServerDiscovery.objects.get()
    assert not kept.is_fresh(now=now)
    assert kept.issuer == "https://as.example.com"


def test_a_refresh_on_its_way_does_not_bring_a_stopped_connection_back(
    granted: Connection, administrator: User, now: datetime
) -> None:
    tokens = TokenSet.objects.get()
    assert lease_for_refresh(tokens, owner="worker", seconds=60)
    server = McpServer.objects.get()
    server.url = NEW_TARGETS["url"]
    change_server(server, actor=administrator, now=now, confirmed=True)
    assert not TokenSet.objects.exclude(lease_owner="").exists()
    assert Connection.objects.get().status == "issuer_changed"


def test_sign_ins_on_their_way_to_the_old_target_end(granted: Connection, administrator: User, now: datetime) -> None:
    AuthorizationRequest.objects.create(
        connection=granted, user=granted.user, state_hash="x", initiated_at=now, expires_at=now + timedelta(minutes=9)
    )
    server = McpServer.objects.get()
    server.url = NEW_TARGETS["url"]
    change_server(server, actor=administrator, now=now, confirmed=True)
    assert AuthorizationRequest.objects.get().status_at(now) == "failed"


@pytest.mark.parametrize(
    ("change", "forgotten"),
    [
        ({"url": NEW_TARGETS["url"]}, {"client_secret", "static_credential"}),
        ({"issuer": NEW_TARGETS["issuer"]}, {"client_secret"}),
        ({"revocation_endpoint": NEW_TARGETS["revocation_endpoint"]}, {"client_secret"}),
        ({"header_name": "X-Other"}, {"static_credential"}),
        ({"command": "other"}, {"environment"}),
        ({"arguments": ["--other"]}, {"environment"}),
        ({"name": "Other"}, set()),
    ],
)
def test_secrets_are_not_carried_over_to_a_new_target(
    server: McpServer, administrator: User, now: datetime, change: dict[str, object], forgotten: set[str]
) -> None:
    changed = _with_secrets(server)
    for name, value in change.items():
        setattr(changed, name, value)
    assert change_server(changed, actor=administrator, now=now).forgotten == forgotten
    kept = McpServer.objects.get()
    for name in ("client_secret", "static_credential", "environment"):
        assert bool(getattr(kept, f"{name}_sealed")) is (name not in forgotten)


def test_a_secret_that_comes_with_the_new_target_is_kept(server: McpServer, administrator: User, now: datetime) -> None:
    changed = _with_secrets(server)
    McpServer.objects.update(client_issuer="https://as.example.com")
    changed.url = NEW_TARGETS["url"]
    changed.client_secret_sealed = Secret("another")
    assert change_server(changed, actor=administrator, now=now).forgotten == {"static_credential"}
    kept = McpServer.objects.get()
    assert kept.client_secret_sealed.reveal() == Secret("another")
    assert kept.client_issuer == ""


def test_deleting_a_connected_server_has_to_be_confirmed_and_is_recorded(
    granted: Connection, administrator: User
) -> None:
    with pytest.raises(ConfirmationRequiredError):
        delete_server(McpServer.objects.get(), actor=administrator)
    assert TokenSet.objects.exists()
    delete_server(McpServer.objects.get(), actor=administrator, confirmed=True)
    assert not McpServer.objects.exists()
    assert not TokenSet.objects.exists()
    ended, entry = AuditRecord.objects.order_by("sequence")
    assert (entry.event, entry.server, entry.details) == ("server.deleted", "notes", {"count": 1})
    assert (ended.event, ended.reason) == ("credentials.revoked", "server deleted")


def test_the_operator_at_the_terminal_needs_no_permission(db: None, settings: Settings) -> None:
    settings.STDIO_SERVERS_ALLOWED = True
    server = McpServer(name="L", slug="l", transport="stdio", auth_type="none", command="notes-mcp")
    create_server(server, actor=None)
    assert AuditRecord.objects.get().actor == "system"


def test_a_local_program_cannot_be_put_behind_the_gateway(administrator: User, settings: Settings) -> None:
    settings.STDIO_SERVERS_ALLOWED = True
    program = {"transport": "stdio", "auth_type": "none", "command": "notes-mcp"}
    with pytest.raises(ValidationError, match="does not reach local programs"):
        create_server(McpServer(name="L", slug="l", gateway_enabled=True, **program), actor=administrator)


def test_a_local_program_is_refused_where_they_are_switched_off(administrator: User) -> None:
    server = McpServer(name="L", slug="l", transport="stdio", auth_type="none", command="notes-mcp")
    with pytest.raises(ValidationError):
        create_server(server, actor=administrator)
