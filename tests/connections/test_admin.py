"""The configuration in the admin: what is saved, what is refused, what is never shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audit.events import AuditEvent
from audit.models import AuditRecord
from audit.record import record
from connections.admin.dashboard import refresh_charts
from connections.models import ApiToken, Connection, FlowTrace, McpServer, ServerDiscovery
from connections.models.api_token import hash_api_token
from oauthflow.protocol.secret import Secret
from tests.connections.conftest import MARKER

Permit = Callable[..., User]


@pytest.fixture
def admin(administrator: User) -> Client:
    return signed_in(administrator)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def staff(user: User, permit: Permit, *codenames: str) -> Client:
    user.is_staff = True
    user.save()
    return signed_in(permit(user, *codenames))


def address(kind: str, *args: object) -> str:
    return reverse(f"admin:connections_{kind}", args=args)


def filled_in(**changed: object) -> dict[str, Any]:
    return {
        "name": "Notes", "slug": "notes", "description": "", "url": "https://notes.example.com/mcp",
        "transport": "streamable_http", "auth_type": "oauth", "status": "active", "documentation_url": "",
        "issuer": "", "scopes": "", "metadata_ttl_minutes": "1440", "profile": "", "registration": "auto",
        "grant_type": "authorization_code", "identity_provider": "", "assertion_source": "",
        "dpop_bound_access_tokens": "auto",
        "client_id": "", "token_endpoint_auth_method": "auto", "header_name": "X-API-Key",
        "connection_policy": "personal", "request_timeout_seconds": "60", "resource_mode": "auto", "resource": "",
        "accepted_issuer": "", "authorization_endpoint": "", "token_endpoint": "", "revocation_endpoint": "",
        **changed,
    }  # fmt: skip


def save(client: Client, server: McpServer, **changed: object) -> HttpResponse:
    return client.post(address("mcpserver_change", server.pk), filled_in(**changed), follow=True)


def test_a_new_server_is_saved_without_touching_the_network_and_offers_the_check(admin: Client) -> None:
    answer = admin.post(address("mcpserver_add"), filled_in(new_client_secret=MARKER, client_id="c"), follow=True)
    server = McpServer.objects.get()
    assert server.client_secret_sealed.reveal().reveal() == MARKER
    assert "check it now" in answer.content.decode()
    assert "Check now" in answer.content.decode()
    assert not FlowTrace.objects.exists()
    assert AuditRecord.objects.get().event == "server.created"


def test_an_empty_box_keeps_a_secret_and_a_tick_erases_it(admin: Client, server: McpServer) -> None:
    save(admin, server, new_client_secret=MARKER)
    save(admin, server, description="other")
    server.refresh_from_db()
    assert server.client_secret_sealed
    assert server.description == "other"
    save(admin, server, clear_client_secret="on")
    server.refresh_from_db()
    assert not server.client_secret_sealed


def test_no_page_shows_a_secret_or_its_ciphertext(admin: Client, granted: Connection) -> None:
    server = granted.server
    save(admin, server, new_client_secret=MARKER, new_static_credential=MARKER)
    refused = save(admin, server, new_client_secret=MARKER, name="")
    pages = [
        refused,
        *(admin.get(address(page, server.pk)) for page in ("mcpserver_change", "mcpserver_history")),
        *(admin.get(address(page)) for page in ("mcpserver_changelist", "mcpserver_files", "connection_changelist")),
        *(admin.get(address("mcpserver_file", kind)) for kind in ("yaml", "mcpServers", "vscode", "server.json")),
        *(admin.get(address(page, granted.pk)) for page in ("connection_change", "connection_delete")),
        admin.get(reverse("admin:index")),
    ]
    for page in pages:
        assert page.status_code == 200
        assert MARKER not in page.content.decode()
        assert "gAAAA" not in page.content.decode()
    assert "0 MCP servers" in admin.get(address("mcpserver_changelist"), {"q": MARKER}).content.decode()
    assert not any(MARKER in entry.change_message for entry in LogEntry.objects.all())
    assert "client secret" in LogEntry.objects.filter(action_flag=2).latest("pk").change_message


def test_a_new_target_of_a_connected_server_has_to_be_confirmed(admin: Client, granted: Connection) -> None:
    answer = save(admin, granted.server, url="https://elsewhere.example.com/mcp")
    assert "1 connection (1 person) will work again when each person has signed in anew." in answer.content.decode()
    granted.server.refresh_from_db()
    assert granted.server.url == "https://notes.example.com/mcp"
    save(admin, granted.server, url="https://elsewhere.example.com/mcp", confirm_target="on")
    granted.refresh_from_db()
    assert granted.server.url == "https://elsewhere.example.com/mcp"
    assert granted.status == Connection.Status.ISSUER_CHANGED


def test_without_the_permission_the_target_of_a_connected_server_is_only_shown(
    alice: User, permit: Permit, granted: Connection
) -> None:
    client = staff(alice, permit, "view_mcpserver", "change_mcpserver")
    page = client.get(address("mcpserver_change", granted.server.pk)).content.decode()
    assert 'name="url"' not in page
    assert 'name="issuer"' not in page
    assert "takes a permission" in page
    save(client, granted.server, url="https://elsewhere.example.com/mcp", confirm_target="on", name="Renamed")
    granted.server.refresh_from_db()
    assert (granted.server.url, granted.server.name) == ("https://notes.example.com/mcp", "Renamed")


def test_only_a_superuser_may_assume_pkce(alice: User, permit: Permit, admin: Client, server: McpServer) -> None:
    save(staff(alice, permit, "view_mcpserver", "change_mcpserver"), server, assume_pkce="on")
    server.refresh_from_db()
    assert not server.assume_pkce
    save(admin, server, assume_pkce="on")
    server.refresh_from_db()
    assert server.assume_pkce
    assert AuditRecord.objects.latest("sequence").details["fields"] == ["assume_pkce"]


def test_who_may_only_look_gets_no_boxes(alice: User, permit: Permit, server: McpServer) -> None:
    page = staff(alice, permit, "view_mcpserver").get(address("mcpserver_change", server.pk))
    assert page.status_code == 200
    assert b'name="new_client_secret"' not in page.content
    assert b'name="name"' not in page.content


def test_a_problem_with_a_field_that_is_only_shown_stands_above_the_form(
    alice: User, permit: Permit, granted: Connection
) -> None:
    McpServer.objects.filter(pk=granted.server.pk).update(resource_mode="custom")
    answer = save(staff(alice, permit, "view_mcpserver", "change_mcpserver"), granted.server)
    assert "Say which value to send." in answer.content.decode()


def test_an_issuer_change_shows_both_and_needs_its_permission(
    admin: Client, alice: User, permit: Permit, server: McpServer
) -> None:
    ServerDiscovery.objects.create(server=server, issuer="https://old.example", new_issuer="https://new.example")
    page = admin.get(address("mcpserver_change", server.pk)).content.decode()
    assert "https://old.example" in page
    assert "https://new.example" in page
    assert "Approve issuer change" in page
    limited = staff(alice, permit, "view_mcpserver", "change_mcpserver").get(address("mcpserver_change", server.pk))
    assert b"Approve issuer change" not in limited.content


def test_attempts_are_shown_step_by_step(admin: Client, server: McpServer) -> None:
    step = {"step": "probe", "url": "https://notes.example.com/mcp", "status": 401, "duration_ms": 12, "verdict": "ok!"}
    FlowTrace.objects.create(server=server, kind="check", verdict="Nobody can connect.", code="timeout", steps=[step])
    page = admin.get(address("mcpserver_change", server.pk)).content.decode()
    assert all(word in page for word in ("probe", "401", "12 ms", "ok!", "Nobody can connect.", "timeout"))


def test_deleting_a_server_says_what_goes_with_it(admin: Client, granted: Connection) -> None:
    page = admin.get(address("mcpserver_delete", granted.server.pk)).content.decode()
    assert "1 connection (1 person)" in page
    admin.post(address("mcpserver_delete", granted.server.pk), {"post": "yes"})
    assert not McpServer.objects.exists()
    assert not Connection.objects.exists()
    assert AuditRecord.objects.latest("sequence").event == "server.deleted"


def test_a_file_is_looked_at_before_it_is_imported_and_kept_sealed(admin: Client) -> None:
    text = (
        f'{{"mcpServers": {{"wiki": {{"url": "https://wiki.example.com/mcp", "headers": {{"X-Key": "{MARKER}"}}}}}}}}'
    )
    looked = admin.post(address("mcpserver_files"), {"file": SimpleUploadedFile("mcp.json", text.encode())})
    assert "What would happen" in looked.content.decode()
    assert not McpServer.objects.exists()
    assert MARKER not in looked.content.decode()
    assert MARKER not in str(dict(admin.session.items()))
    admin.post(address("mcpserver_files"), {"confirmed": "yes"})
    assert McpServer.objects.get().slug == "wiki"
    again = admin.post(address("mcpserver_files"), {"confirmed": "yes"}, follow=True)
    assert "Choose it again" in again.content.decode()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"nonsense", b"{" + b" " * 1_100_000], ids=["bytes", "kind", "size"])
def test_a_file_that_cannot_be_read_is_refused(admin: Client, content: bytes) -> None:
    answer = admin.post(address("mcpserver_files"), {"file": SimpleUploadedFile("f", content)})
    assert answer.status_code == 200
    assert b"errorlist" in answer.content


def test_looking_is_not_importing(alice: User, permit: Permit) -> None:
    client = staff(alice, permit, "view_mcpserver")
    assert b"Import</h2>" not in client.get(address("mcpserver_files")).content
    assert client.post(address("mcpserver_files"), {"confirmed": "yes"}).status_code == 403


def test_an_api_token_is_shown_once(admin: Client, alice: User) -> None:
    given = {"user": alice.pk, "name": "Report", "scopes": ["servers:read"], "days": "7"}
    issued = admin.post(address("apitoken_add"), given)
    token = issued.context["secret"]
    row = ApiToken.objects.get()
    assert row.token_hash == hash_api_token(token)
    assert token in issued.content.decode()
    assert "no-store" in issued.headers["Cache-Control"]
    for page in (
        address("apitoken_changelist"),
        address("apitoken_change", row.pk),
        address("apitoken_history", row.pk),
    ):
        shown = admin.get(page).content.decode()
        assert token not in shown
        assert row.token_hash not in shown
    admin.post(address("apitoken_revoke", row.pk))
    row.refresh_from_db()
    assert row.revoked_at is not None


def test_nobody_issues_a_token_that_takes_somebody_elses_access_tokens(admin: Client, alice: User) -> None:
    given = {"user": alice.pk, "name": "x", "scopes": ["tokens:release"], "days": ""}
    assert "of your own" in admin.post(address("apitoken_add"), given).content.decode()
    assert not ApiToken.objects.exists()


def test_staff_issue_tokens_for_themselves_only(alice: User, administrator: User, permit: Permit) -> None:
    client = staff(alice, permit, "add_apitoken", "view_apitoken")
    given = {"user": administrator.pk, "name": "x", "scopes": ["servers:read"], "days": ""}
    client.post(address("apitoken_add"), given)
    assert not ApiToken.objects.exists()
    assert client.post(address("apitoken_add"), given | {"user": alice.pk}).status_code == 200
    assert ApiToken.objects.get().user == alice
    assert client.post(address("apitoken_revoke", ApiToken.objects.get().pk)).status_code == 403


def test_environment_variables_are_taken_line_by_line(admin: Client, server: McpServer, settings: Any) -> None:
    settings.STDIO_SERVERS_ALLOWED = True
    program = {"transport": "stdio", "auth_type": "none", "command": "notes", "arguments": "[]", "url": ""}
    refused = save(admin, server, **program, new_environment=f"KEY {MARKER}")
    assert "Line 1 is not NAME=value." in refused.content.decode()
    assert MARKER not in refused.content.decode()
    save(admin, server, **program, new_environment=f"KEY={MARKER}\n\nOTHER=1")
    server.refresh_from_db()
    assert server.environment_sealed.reveal().reveal() == f'{{"KEY": "{MARKER}", "OTHER": "1"}}'


def test_a_secret_that_the_keys_do_not_open_is_told_apart(admin: Client, server: McpServer) -> None:
    server.client_secret_sealed = Secret("x")
    sealed = str.__str__(server.client_secret_sealed.ciphertext)
    McpServer.objects.filter(pk=server.pk).update(
        client_secret_sealed=type(server.client_secret_sealed.ciphertext)(sealed[:-6] + "AAAA==")
    )
    assert "keys do not open it" in admin.get(address("mcpserver_change", server.pk)).content.decode()


def test_the_first_page_tells_how_things_stand(admin: Client, granted: Connection, now: datetime) -> None:
    McpServer.objects.update(assume_pkce=True)
    page = admin.get(reverse("admin:index")).content.decode()
    assert "Connected: 1." in page
    assert "without a promise of PKCE" in page
    assert " style=" not in page


def test_an_alert_is_no_failed_refresh(admin: Client, granted: Connection, now: datetime) -> None:
    record(AuditEvent.TOKEN_REFRESH_FAILED, connection=granted, reason="temporarily_unavailable")
    record(AuditEvent.TOKEN_REFRESH_FAILED, reason="mass_invalid_grant")
    hours, days = refresh_charts(now=timezone.now())
    assert (hours.failed, days.failed) == (1, 1)


def test_the_first_page_keeps_to_what_somebody_may_see(alice: User, permit: Permit, granted: Connection) -> None:
    page = staff(alice, permit, "view_mcpserver").get(reverse("admin:index")).content.decode()
    assert "Connections by state" not in page
    assert "Last 24 hours" not in page


def test_people_sign_in_at_the_site_and_not_in_the_admin(client: Client, alice: User) -> None:
    wanted = address("mcpserver_changelist")
    first = client.get(wanted)
    second = client.get(first.headers["Location"])
    assert second.headers["Location"] == f"/accounts/login/?next={wanted}"
    client.force_login(alice)
    assert client.get(first.headers["Location"]).status_code == 403
    alice.is_staff = True
    alice.save()
    assert client.get(first.headers["Location"]).headers["Location"] == wanted
    assert client.get("/admin/login/?next=//evil.example/").headers["Location"] == "/admin/"


@pytest.mark.parametrize("check", ["", "ready", "problem", "none"])
@pytest.mark.parametrize(
    "kind", ["clientregistration", "authorizationserver", "serverdiscovery", "flowtrace", "mcpserver"]
)
def test_lists_open_with_their_filters(admin: Client, server: McpServer, kind: str, check: str) -> None:
    asked = {"check": check} if check and kind == "mcpserver" else {}
    assert admin.get(address(f"{kind}_changelist"), asked).status_code == 200


@pytest.mark.parametrize(
    "kind", ["clientregistration", "authorizationserver", "serverdiscovery", "flowtrace", "connection"]
)
def test_records_cannot_be_added(admin: Client, kind: str) -> None:
    assert admin.get(address(f"{kind}_add")).status_code == 403
