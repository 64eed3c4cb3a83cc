"""REST for servers: who sees and changes what, unknown fields, write-only secrets. Z01, Z03, Z04, L05."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from audit.models import AuditRecord
from connections.models import Connection, McpServer
from connections.models.api_token import ApiScope

from .conftest import MARKER

SERVERS = "/api/v1/servers"
CONTRACT = {
    "name", "slug", "description", "url", "transport", "auth_type", "issuer", "scopes", "metadata_ttl_minutes",
    "client_id", "token_endpoint_auth_method", "registration", "profile", "resource_mode", "resource",
    "connection_policy", "users", "groups", "gateway_enabled", "status", "documentation_url",
}  # fmt: skip
SECRETS = {"client_secret", "static_credential", "environment"}
NEW = {"name": "New", "slug": "new", "url": "https://new.example.com/mcp"}

ClientOf = Callable[..., APIClient]


@pytest.fixture
def root(client_of: ClientOf, administrator: User) -> APIClient:
    return client_of(administrator)


def test_a_server_is_configured_read_changed_and_deleted(root: APIClient) -> None:
    made = root.post(SERVERS, NEW)
    assert made.status_code == 201
    assert made.json()["auth_type"] == "oauth"
    assert root.get(f"{SERVERS}/new").json() == made.json()
    changed = root.patch(f"{SERVERS}/new", {"scopes": "write read", "metadata_ttl_minutes": 5})
    assert changed.status_code == 200
    assert changed.json()["scopes"] == "read write"
    assert root.delete(f"{SERVERS}/new").status_code == 204
    assert root.get(f"{SERVERS}/new").status_code == 404
    events = list(AuditRecord.objects.order_by("sequence").values_list("event", "client"))
    assert events == [("server.created", "program"), ("server.changed", "program"), ("server.deleted", "program")]


def test_a_server_shows_the_fields_of_the_contract_and_no_secret(root: APIClient) -> None:
    body = root.post(SERVERS, NEW).json()
    assert set(body) >= CONTRACT
    assert not set(body) & SECRETS
    assert not [name for name in body if name.endswith("_sealed")]


def test_secrets_go_in_and_never_come_out(root: APIClient) -> None:
    secrets = {"client_secret": MARKER, "static_credential": MARKER, "environment": {"KEY": MARKER}}
    answers = [root.post(SERVERS, NEW | secrets), root.get(SERVERS), root.get(f"{SERVERS}/new")]
    answers += [
        root.get(f"{SERVERS}/export", {"format": kind}) for kind in ("yaml", "mcpServers", "vscode", "server.json")
    ]
    for answer in answers:
        assert answer.status_code in {200, 201}
        assert MARKER not in answer.content.decode()
        assert answer.headers["Cache-Control"] == "no-store"
    assert [answers[0].json()[f"{name}_set"] for name in sorted(SECRETS)] == [True, True, True]
    assert McpServer.objects.get().client_secret_sealed.reveal().reveal() == MARKER
    assert McpServer.objects.get().environment_sealed.reveal().reveal() == f'{{"KEY": "{MARKER}"}}'
    assert MARKER not in str(list(AuditRecord.objects.values()))


def test_an_absent_secret_stays_and_an_empty_one_is_erased(root: APIClient) -> None:
    root.post(SERVERS, NEW | {"client_secret": MARKER})
    assert root.patch(f"{SERVERS}/new", {"name": "Other"}).json()["client_secret_set"] is True
    assert root.patch(f"{SERVERS}/new", {"client_secret": ""}).json()["client_secret_set"] is False


@pytest.mark.parametrize(
    "field",
    ["id", "user", "status_", "is_staff", "expires_at", "created_at", "client_issuer", "client_secret_sealed",
     "client_secret_set", "connections", "discovery", "pk"],
)  # fmt: skip
def test_unknown_and_read_only_fields_are_refused_by_name(root: APIClient, field: str) -> None:
    root.post(SERVERS, NEW)
    for answer in (root.patch(f"{SERVERS}/new", {field: "x"}), root.post(SERVERS, NEW | {"slug": "z", field: "x"})):
        assert answer.status_code == 400
        body = answer.json()
        assert body["error"] == "unknown_field"
        assert set(body["fields"]) == {field}
        assert set(body) >= {"message", "retryable", "requires_reauthorization", "correlation_id"}
    assert McpServer.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "https://evil.example/${SECRET_KEY}"}, "url"),
        ({"url": "gopher://x"}, "url"),
        ({"url": 5, "name": {}}, "name"),
        ({"metadata_ttl_minutes": 4}, "metadata_ttl_minutes"),
        ({"metadata_ttl_minutes": "soon"}, "metadata_ttl_minutes"),
        ({"scopes": 'read "write"'}, "scopes"),
        ({"transport": "carrier-pigeon"}, "transport"),
        ({"profile": "unheard-of"}, "profile"),
        ({"slug": "import"}, "slug"),
        ({"users": ["nobody"]}, "users"),
        ({"environment": ["A=B"]}, "environment"),
        ({"header_name": "a b"}, "header_name"),
        ({"resource_mode": "custom"}, "resource"),
        ({"registration": "pre_registered"}, "client_id"),
    ],
)
def test_a_wrong_value_is_named_by_its_field_and_stores_nothing(root: APIClient, body: Any, field: str) -> None:
    answer = root.post(SERVERS, NEW | body)
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert field in answer.json()["fields"]
    assert not McpServer.objects.exists()


def test_characters_that_are_no_text_are_refused_wherever_they_stand(root: APIClient) -> None:
    answer = root.post(
        f"{SERVERS}/import", '{"document": {"mcpServers": {"\\ud800": {}}}}', content_type="application/json"
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    for body in ('{"\\ud800": 1}', '{"name": "\\ud800"}', '{"name": "a\\u0000"}', '{"environment": {"A": "\\u0000"}}'):
        assert root.post(SERVERS, body, content_type="application/json").status_code == 400


def test_a_body_nested_beyond_reason_is_a_bad_request(root: APIClient) -> None:
    for body in ("[" * 200_000, '{"a":' * 100_000, "{", "\x00", ""):
        assert root.post(SERVERS, body, content_type="application/json").status_code == 400


@pytest.mark.parametrize("body", [[], "text", 5, None])
def test_a_body_that_is_no_object_is_refused(root: APIClient, body: object) -> None:
    assert root.post(SERVERS, body, format="json").status_code == 400


def test_two_servers_cannot_have_one_slug(root: APIClient) -> None:
    root.post(SERVERS, NEW)
    answer = root.post(SERVERS, NEW)
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["slug"])


def test_a_user_sees_what_is_open_to_them_in_short_form(
    server: McpServer, client_of: ClientOf, alice: User, bob: User
) -> None:
    McpServer.objects.create(name="Off", slug="off", url="https://off.example.com", status="inactive")
    private = McpServer.objects.create(name="Private", slug="private", url="https://private.example.com")
    private.users.add(bob)
    seen = client_of(alice, [ApiScope.SERVERS_READ]).get(SERVERS).json()
    assert [entry["slug"] for entry in seen["results"]] == ["notes"]
    assert not {"users", "groups", "client_id", "client_secret_set", "command"} & set(seen["results"][0])
    assert {entry["slug"] for entry in client_of(bob).get(SERVERS).json()["results"]} == {"notes", "private"}


def test_a_foreign_server_answers_exactly_as_an_unknown_one(
    server: McpServer, client_of: ClientOf, alice: User, bob: User, permit: Callable[..., User]
) -> None:
    server.users.add(bob)
    client = client_of(permit(alice, "change_mcpserver", "delete_mcpserver"))
    for verb in ("get", "patch", "delete"):
        foreign, unknown = (getattr(client, verb)(f"{SERVERS}/{slug}", {}) for slug in ("notes", "nothing"))
        assert (foreign.status_code, unknown.status_code) == (404, 404)
        assert {**foreign.json(), "correlation_id": ""} == {**unknown.json(), "correlation_id": ""}


def test_without_the_permission_or_the_scope_nothing_is_changed(
    server: McpServer, client_of: ClientOf, alice: User, administrator: User
) -> None:
    for client in (client_of(alice), client_of(administrator, [ApiScope.SERVERS_READ])):
        assert client.post(SERVERS, NEW).status_code == 403
        assert client.patch(f"{SERVERS}/notes", {"name": "X"}).status_code == 403
        assert client.delete(f"{SERVERS}/notes").status_code == 403
        assert client.post(f"{SERVERS}/import", {"document": "{}"}).status_code == 403
    assert client_of(alice).get(f"{SERVERS}/export").status_code == 403
    assert McpServer.objects.get().name == "Notes"


def test_there_is_no_put(root: APIClient) -> None:
    assert root.put(f"{SERVERS}/new", NEW).status_code == 405


def test_deleting_a_connected_server_answers_409_with_the_impact_until_confirmed(
    granted: Connection, root: APIClient
) -> None:
    for wrong in ("", "?confirm=", "?confirm=other", "?confirm=true"):
        answer = root.delete(f"{SERVERS}/notes{wrong}")
        assert answer.status_code == 409
        assert answer.json()["error"] == "confirmation_required"
        assert "1 connection (1 person)" in answer.json()["message"]
    assert Connection.objects.exists()
    assert root.delete(f"{SERVERS}/notes?confirm=notes").status_code == 204


def test_a_new_target_takes_permission_and_confirmation(
    granted: Connection, client_of: ClientOf, bob: User, root: APIClient, permit: Callable[..., User]
) -> None:
    canary = {"issuer": "https://canary.example.net"}
    staff = client_of(permit(bob, "view_mcpserver", "change_mcpserver"))
    assert staff.patch(f"{SERVERS}/notes?confirm=notes", canary).status_code == 403
    assert root.patch(f"{SERVERS}/notes", canary).status_code == 409
    assert Connection.objects.get().status == "active"
    assert root.patch(f"{SERVERS}/notes?confirm=notes", canary).status_code == 200
    assert Connection.objects.get().status == "issuer_changed"


def test_the_list_comes_in_pages_and_is_filtered(root: APIClient) -> None:
    McpServer.objects.bulk_create(
        McpServer(
            name=f"S{number:03}",
            slug=f"s{number}",
            url="https://s.example.com",
            auth_type=("none", "oauth")[number % 2],
        )
        for number in range(60)
    )
    McpServer.objects.filter(slug="s1").update(status="inactive")
    first = root.get(SERVERS).json()
    assert (first["count"], len(first["results"])) == (60, 50)
    assert len(root.get(first["next"]).json()["results"]) == 10
    assert root.get(SERVERS, {"auth_type": "none", "page_size": 7}).json()["count"] == 30
    assert root.get(SERVERS, {"status": "inactive"}).json()["count"] == 1
    assert root.get(SERVERS, {"status": "asleep"}).status_code == 400
    assert root.get(SERVERS, {"page": "0"}).status_code == 404


def test_a_list_takes_the_same_few_queries_however_long_it_is(
    root: APIClient, alice: User, django_assert_max_num_queries: Any
) -> None:
    for number in range(10):
        McpServer.objects.create(name=f"S{number}", slug=f"s{number}", url="https://s.example.com").users.add(alice)
    with django_assert_max_num_queries(8):
        assert root.get(SERVERS).json()["results"][0]["users"] == ["alice"]


def test_import_reports_each_entry_and_a_file_of_no_known_kind_is_a_wrong_document(root: APIClient) -> None:
    file = {"mcpServers": {"good": {"url": "https://good.example.com/mcp"}, "bad": {"url": "https://x/${KEY}"}}}
    answer = root.post(f"{SERVERS}/import", {"document": file})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["format"], body["created"], body["updated"]) == ("mcpServers", ["good"], [])
    assert [problem["name"] for problem in body["problems"]] == ["bad"]
    for wrong in (
        "",
        '{"mcpServers": {"\\ud800": {}}}',
        "hello",
        "[]",
        '{"a": 1}',
        "{",
        "a: [",
        5,
        None,
    ):
        refused = root.post(f"{SERVERS}/import", {"document": wrong}, format="json")
        assert refused.status_code == 400
        assert "document" in refused.json()["fields"]
    assert root.post(f"{SERVERS}/import", {"document": file, "dryrun": True}).json()["error"] == "unknown_field"


def test_an_unknown_export_format_is_named(root: APIClient) -> None:
    answer = root.get(f"{SERVERS}/export", {"format": "docx"})
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["format"])
