"""Importing what fits, reporting what does not, and exporting without secrets. L05."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime

import pytest
from django.contrib.auth.models import User
from pytest_django.fixtures import Settings

from audit.models import AuditRecord
from connections.formats.entry import UnreadableFileError
from connections.formats.export import ExportFormat, export_servers
from connections.formats.imports import import_servers
from connections.models import Connection, McpServer
from oauthflow.protocol.secret import Secret

from .conftest import MARKER

TEN = {f"s{number}": {"url": f"https://s{number}.example.com/mcp"} for number in range(9)} | {"bad": {"url": "nowhere"}}


def test_one_bad_entry_among_ten_is_reported_and_nine_are_imported(administrator: User, now: datetime) -> None:
    result = import_servers({"mcpServers": TEN}, actor=administrator, now=now, client="ci")
    assert len(result.created) == McpServer.objects.count() == 9
    assert [problem.name for problem in result.problems] == ["bad"]
    assert "url" in result.problems[0].reason
    assert AuditRecord.objects.filter(event="server.created", client="ci").count() == 9


def test_a_dry_run_says_the_same_and_writes_nothing(administrator: User, now: datetime) -> None:
    rehearsed = import_servers({"mcpServers": TEN}, actor=administrator, now=now, dry_run=True)
    assert not McpServer.objects.exists()
    assert not AuditRecord.objects.exists()
    done = import_servers({"mcpServers": TEN}, actor=administrator, now=now)
    assert (rehearsed.created, rehearsed.problems) == (done.created, done.problems)


def test_what_exists_is_skipped_unless_it_is_to_be_updated(
    server: McpServer, administrator: User, now: datetime
) -> None:
    file = {"mcpServers": {"notes": {"url": "https://moved.example.com/mcp"}}}
    assert [remark.name for remark in import_servers(file, actor=administrator, now=now).skipped] == ["notes"]
    assert import_servers(file, actor=administrator, now=now, update=True).updated == ["notes"]
    assert McpServer.objects.get().url == "https://moved.example.com/mcp"
    again = import_servers(file, actor=administrator, now=now, update=True)
    assert (again.updated, [remark.reason for remark in again.skipped]) == ([], ["nothing differs"])


def test_the_same_secret_again_is_no_change_and_another_one_is(administrator: User, now: datetime) -> None:
    def file(secret: str) -> dict[str, object]:
        return {"mcpServers": {"a": {"url": "https://a.example.com", "headers": {"X-Key": secret}}}}

    import_servers(file(MARKER), actor=administrator, now=now)
    assert import_servers(file(MARKER), actor=administrator, now=now, update=True).updated == []
    assert import_servers(file("other"), actor=administrator, now=now, update=True).updated == ["a"]
    assert McpServer.objects.get().static_credential_sealed.reveal() == Secret("other")
    assert MARKER not in str(list(AuditRecord.objects.values()))


def test_a_secret_erased_by_a_new_address_is_noted(server: McpServer, administrator: User, now: datetime) -> None:
    server.static_credential_sealed = Secret(MARKER)
    server.save()
    file = {"mcpServers": {"notes": {"url": "https://moved.example.com/mcp"}}}
    result = import_servers(file, actor=administrator, now=now, update=True)
    assert [note.reason for note in result.notes] == ["static_credential was erased: enter it anew."]


def test_an_import_never_gives_a_connected_server_a_new_target(
    granted: Connection, administrator: User, now: datetime
) -> None:
    file = {"mcpServers": {"notes": {"url": "https://canary.example.net/mcp"}}}
    result = import_servers(file, actor=administrator, now=now, update=True)
    assert (result.updated, [problem.name for problem in result.problems]) == ([], ["notes"])
    assert McpServer.objects.get().url == "https://notes.example.com/mcp"
    assert Connection.objects.get().status == "active"


def test_an_import_does_no_more_than_its_importer_may(
    server: McpServer, alice: User, permit: Callable[..., User], now: datetime
) -> None:
    actor = permit(alice, "add_mcpserver")
    file = {"mcpServers": {"new": {"url": "https://new.example.com"}, "notes": {"url": "https://x.example.com"}}}
    result = import_servers(file, actor=actor, now=now, update=True)
    assert (result.created, [problem.name for problem in result.problems]) == (["new"], ["notes"])


def test_two_names_with_one_slug_are_not_merged(administrator: User, now: datetime) -> None:
    file = {"mcpServers": {"my notes": {"url": "https://a.example.com"}, "my-notes": {"url": "https://b.example.com"}}}
    result = import_servers(file, actor=administrator, now=now)
    assert (result.created, [problem.name for problem in result.problems]) == (["my-notes"], ["my-notes"])
    assert McpServer.objects.get().url == "https://a.example.com"


@pytest.mark.parametrize(
    "entry",
    ["slug: import", "slug: 'a b'", "metadata_ttl_minutes: 4", "users: [nobody]", "is_staff: true", "status: asleep",
     "client_secret: [1]", "scopes: 'a \"b\"'", "url: 2026-11-21", "arguments: {}"],
)  # fmt: skip
def test_a_wrong_field_in_our_yaml_is_reported(administrator: User, now: datetime, entry: str) -> None:
    fields = {"url": "https://n.example.com"}
    lines = [f"{name}: {value}" for name, value in fields.items() if not entry.startswith(name)] + [entry]
    text = "servers:\n- name: N\n" + "".join(f"  {line}\n" for line in lines)
    result = import_servers(text, actor=administrator, now=now)
    assert (result.created, [problem.name for problem in result.problems]) in [([], ["N"]), ([], ["entry 1"])]


def test_a_local_program_is_a_problem_where_they_are_switched_off(administrator: User, now: datetime) -> None:
    result = import_servers({"mcpServers": {"l": {"command": "notes"}}}, actor=administrator, now=now)
    assert "STDIO_SERVERS_ALLOWED" in result.problems[0].reason


def test_a_file_of_no_known_kind_is_refused_as_a_whole(administrator: User, now: datetime) -> None:
    with pytest.raises(UnreadableFileError):
        import_servers("hello: world", actor=administrator, now=now)


def _every_kind_of_server(settings: Settings, alice: User) -> None:
    settings.STDIO_SERVERS_ALLOWED = True
    secret = Secret(MARKER)
    plain = McpServer.objects.create(name="Plain", slug="plain", url="https://p.example.com", scopes="a b")
    plain.users.add(alice)
    oauth = McpServer(name="OAuth", slug="oauth", url=f"https://o.example.com/?api_key={MARKER}", client_id="id")
    oauth.client_secret_sealed = secret
    bearer = McpServer(
        name="Bearer", slug="bearer", url="https://b.example.com/sse", transport="sse", auth_type="bearer"
    )
    header = McpServer(name="Header", slug="header", url="https://h.example.com", auth_type="header", header_name="X-K")
    bearer.static_credential_sealed = header.static_credential_sealed = secret
    local = McpServer(name="Local", slug="local", transport="stdio", auth_type="none", command="npx")
    local.arguments = ["notes", "--token", MARKER]
    local.environment_sealed = Secret(json.dumps({"API_KEY": MARKER}))
    for made in (oauth, bearer, header, local):
        made.save()


@pytest.mark.parametrize("kind", list(ExportFormat))
def test_an_export_holds_no_secret_and_marks_where_one_is_set(
    administrator: User, alice: User, settings: Settings, kind: ExportFormat
) -> None:
    _every_kind_of_server(settings, alice)
    text = export_servers(McpServer.objects.all(), kind=kind)
    assert MARKER not in text
    marks = {
        ExportFormat.YAML: ["client_secret_set: true", "static_credential_set: true", "environment_set: true"],
        ExportFormat.MCP_SERVERS: ["${OAUTH_CLIENT_SECRET}", "Bearer ${BEARER_TOKEN}", "${LOCAL_API_KEY}", "${TOKEN}"],
        ExportFormat.VS_CODE: ["${input:bearer-token}", '"id": "local-api-key"', '"password": true'],
        ExportFormat.REGISTRY: ["Bearer {token}", '"isSecret": true'],
    }
    assert [mark for mark in marks[kind] if mark not in text] == []


@pytest.mark.parametrize("kind", list(ExportFormat))
def test_what_was_exported_is_imported_again(
    administrator: User, alice: User, settings: Settings, now: datetime, kind: ExportFormat
) -> None:
    _every_kind_of_server(settings, alice)
    before = {server.slug: server for server in McpServer.objects.all()}
    text = export_servers(McpServer.objects.all(), kind=kind)
    McpServer.objects.all().delete()
    result = import_servers(text, actor=administrator, now=now)
    expected = set(before) - {"oauth"} - ({"local"} if kind is ExportFormat.REGISTRY else set())
    assert set(result.created) == expected
    assert {problem.name.rpartition("/")[2].lower() for problem in result.problems} - {"entry 2"} <= {"oauth"}
    for server in McpServer.objects.all():
        old = before[server.slug]
        assert (server.url, server.transport, server.command) == (old.url, old.transport, old.command)
        if kind is not ExportFormat.REGISTRY:
            assert (server.auth_type, server.header_name) == (old.auth_type, old.header_name)
    assert {note.name.lower().rpartition("/")[2] for note in result.notes} >= {"bearer", "header"}


def test_an_export_with_unreadable_variables_leaves_their_names_out(
    administrator: User, alice: User, settings: Settings
) -> None:
    _every_kind_of_server(settings, alice)
    McpServer.objects.filter(slug="local").update(
        environment_sealed=McpServer.objects.get(slug="oauth").client_secret_sealed
    )
    assert "API_KEY" not in export_servers(McpServer.objects.filter(slug="local"), kind=ExportFormat.MCP_SERVERS)
