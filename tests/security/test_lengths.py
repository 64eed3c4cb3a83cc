"""Long and strange texts from outside: used, cut or refused in words, and the same on both databases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from audit.models import AuditRecord
from connections.models import Connection
from tests.fakes.world import World
from tests.rest_clients import with_token

pytestmark = pytest.mark.django_db

Initiate = Callable[..., Any]

_IN_WORDS: Final = frozenset({200, 400, 422, 502, 503})


@pytest.mark.parametrize(
    "attack",
    [
        {"scope": "s" * 5000}, {"scope": " ".join(f"scope{n}" for n in range(2000))}, {"scope": "a\0b"},
        {"token_type": "bearer" * 10}, {"access_token": "x" * 16_000},
    ],
)  # fmt: skip
def test_long_answers_of_a_token_endpoint_cost_no_login(
    attack: dict[str, Any], world: World, alice: User, program: APIClient
) -> None:
    connection = world.connect(alice, now=timezone.now())
    world.authorization_server.rotates = False
    world.authorization_server.token_overrides = attack
    answer = program.post(f"/api/v1/connections/{connection.pk}/refresh")
    assert answer.status_code in (200, 502, 503)
    kept = Connection.objects.get()
    assert kept.status in ("active", "degraded")
    assert kept.token_set is not None
    assert kept.token_set.refresh_token_sealed.reveal()


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://as.example/" + "x" * 3000}, {"authorization_endpoint": "https://as.example/" + "x" * 3000},
        {"token_endpoint": "https://as.example/" + "x" * 3000}, {"scopes_supported": ["s" * 3000]},
        {"revocation_endpoint": "https://as.example/" + "x" * 3000}, {"service_documentation": "x" * 3000},
    ],
)  # fmt: skip
def test_long_metadata_is_used_or_refused_in_words(metadata: dict[str, Any], world: World, initiate: Initiate) -> None:
    world.authorization_server.metadata_overrides = metadata
    assert initiate().status_code in _IN_WORDS


@pytest.mark.parametrize(
    "document",
    [
        {"resource": "https://mcp.example/mcp?" + "x" * 3000}, {"scopes_supported": ["s" * 3000]},
        {"scopes_supported": [f"scope{n}" for n in range(1000)]},
        {"authorization_servers": ["https://as.example/" + "x" * 3000]}, {"resource_name": "<script>" * 1000},
    ],
)  # fmt: skip
def test_a_long_description_of_a_server_is_used_or_refused_in_words(
    document: dict[str, Any], world: World, initiate: Initiate
) -> None:
    world.mcp_server.metadata_overrides = document
    world.authorization_server.issuer = document.get("authorization_servers", ["https://as.example"])[0]
    assert initiate().status_code in _IN_WORDS


@pytest.mark.parametrize(
    "registered", [{"client_id": "c" * 2000}, {"registration_client_uri": "https://as.example/" + "x" * 3000}]
)
def test_a_long_registration_is_used_or_refused_in_words(
    registered: dict[str, Any], world: World, initiate: Initiate
) -> None:
    world.authorization_server.registration_overrides = registered
    assert initiate().status_code in _IN_WORDS


def test_a_server_with_the_longest_name_works_on_every_database(world: World, alice: User) -> None:
    slug = "s" * 80
    world.server(slug)
    assert world.connect(alice, now=timezone.now(), slug=slug).status == "active"
    assert set(AuditRecord.objects.exclude(server="").values_list("server", flat=True)) == {slug}


_STRANGE: Final = ("a\0b", "x" * 5000, "\U0001f600" * 500 + "\r\n\x1b[2J' OR 1=1 --")
_MORE_SCOPE: Final = 'Bearer error="insufficient_scope", scope="TEXT"'


@pytest.mark.parametrize("text", _STRANGE)
@pytest.mark.parametrize(
    ("address", "field"),
    [
        ("/connect/notes", "label"), ("/connect/notes", "return_to"), ("/oauth/paste", "pasted"),
        ("/oauth/paste", "request"), ("/accounts/login/", "login"), ("/accounts/login/", "password"),
        ("/accounts/login/", "next"), ("/connections/ID/disconnect", "reason"), ("/connections/ID/disconnect", "next"),
    ],
)  # fmt: skip
def test_a_strange_text_in_a_form_is_no_fault_of_ours(
    address: str, field: str, text: str, world: World, browser: Client, alice: User
) -> None:
    connection = world.connection(alice)
    form = {"login": "alice", "password": "x", field: text} if "login" in address else {field: text}
    visitor = Client() if "login" in address else browser
    answer = visitor.post(address.replace("ID", str(connection.pk)), form)
    assert answer.status_code < 500
    assert "\0" not in answer.headers.get("Location", "")


@pytest.mark.parametrize("text", _STRANGE)
@pytest.mark.parametrize(
    ("method", "address", "body"),
    [
        ("post", "/api/v1/connections", {"server": "notes", "label": "TEXT"}),
        ("post", "/api/v1/connections", {"server": "TEXT"}),
        ("post", "/api/v1/connections/ID/revoke", {"reason": "TEXT"}),
        ("post", "/api/v1/connections/ID/challenge", {"status": 401, "www_authenticate": "TEXT"}),
        ("post", "/api/v1/connections/ID/challenge", {"status": 403, "www_authenticate": _MORE_SCOPE}),
        ("post", "/api/v1/oauth/initiate", {"server": "notes", "additional_scopes": "TEXT"}),
        ("post", "/api/v1/oauth/initiate", {"server": "notes", "return_to": "/TEXT"}),
        ("post", "/api/v1/oauth/complete", {"state": "TEXT", "code": "TEXT", "iss": "TEXT"}),
        ("post", "/api/v1/oauth/complete", {"state": "x" * 43, "redirect_url": "https://x.example/?code=TEXT"}),
        ("post", "/api/v1/servers", {"name": "TEXT", "slug": "x", "url": "https://x.example/TEXT"}),
        ("patch", "/api/v1/servers/notes", {"description": "TEXT", "header_name": "TEXT", "arguments": ["TEXT"]}),
        ("patch", "/api/v1/servers/notes", {"environment": {"TEXT": "TEXT"}, "static_credential": "TEXT"}),
        ("patch", "/api/v1/servers/notes", {"users": ["TEXT"], "scopes": "TEXT", "resource": "TEXT"}),
        ("post", "/api/v1/servers/import", {"document": {"mcpServers": {"TEXT": {"url": "https://x.example/mcp"}}}}),
        ("post", "/api/v1/servers/import", {"document": {"mcpServers": {"x": {"command": "TEXT", "args": ["TEXT"]}}}}),
        ("post", "/api/v1/servers/import", {"document": "TEXT"}),
    ],
)  # fmt: skip
def test_a_strange_text_in_a_body_is_no_fault_of_ours(
    method: str, address: str, body: dict[str, Any], text: str, world: World, administrator: User
) -> None:
    connection = world.connection(administrator)
    wanted = _with(body, text)
    answer = getattr(with_token(administrator), method)(address.replace("ID", str(connection.pk)), wanted)
    assert answer.status_code < 500


@pytest.mark.parametrize("text", _STRANGE)
@pytest.mark.parametrize(
    "query",
    [
        "query($t: String!) { mcpConnections(server: $t) { edges { node { id } } } }",
        "query($t: String!) { mcpAuditEvents(server: $t, user: $t, event: $t) { edges { node { id } } } }",
        "query($t: ID!) { mcpAuditEvents(connectionId: $t) { edges { node { id } } } }",
        "query($t: String!) { mcpServers(after: $t) { edges { node { id } } } }",
        "query($t: ID!) { getMCPOAuthConnectionStatus(connectionId: $t) { connectionId } }",
        "query($t: String!) { getMCPOAuthStatus(input: {stateParameter: $t}) { success } }",
        'mutation($t: String!) { revokeMCPOAuth(input: {connectionId: "ID", reason: $t}) { success } }',
        'mutation($t: String!) { initiateMCPOAuth(input: {connectionId: "ID", additionalScopes: $t}) { success } }',
    ],
)  # fmt: skip
def test_a_strange_text_in_a_query_is_refused_in_words(
    query: str, text: str, world: World, alice: User, program: APIClient
) -> None:
    connection = world.connection(alice)
    body = {
        "query": query.replace("ID!", "\1").replace("ID", str(connection.pk)).replace("\1", "ID!"),
        "variables": {"t": text},
    }
    answer = program.post("/graphql", body)
    assert answer.status_code in (200, 400)
    assert "server_error" not in answer.content.decode()


@pytest.mark.parametrize("text", ["%00", "x" * 5000, "%ff%0d%0a", "99999999999999999999999"])
@pytest.mark.parametrize(
    "address",
    [
        "/connect/notes?label=", "/connect/notes?return_to=", "/connect/", "/connections/", "/connections/result/",
        "/api/v1/oauth/callback?state=", "/api/v1/oauth/callback?code=", "/api/v1/oauth/status/",
        "/accounts/login/?next=",
        "/api/v1/connections/", "/api/v1/servers/", "/api/v1/servers?page=", "/api/v1/servers?page_size=",
        "/api/v1/servers?status=", "/api/v1/servers/export?format=", "/api/v1/audit/events?user=",
        "/api/v1/audit/events?server=", "/api/v1/audit/events?connection=", "/api/v1/audit/events?cursor=",
        "/api/v1/audit/events?from=", "/api/v1/audit/events?format=", "/api/v1/audit/events?limit=",
        "/api/v1/schema?format=",
        "/api/v1/docs?", "/static/", "/servers/", "/admin/connections/mcpserver/?q=",
        "/admin/connections/mcpserver/?o=",
        "/admin/connections/mcpserver/?p=", "/admin/connections/connection/?server__id__exact=",
        "/admin/connections/connection/?owner=", "/admin/connections/connection/", "/admin/audit/auditrecord/?q=",
        "/admin/audit/auditrecord/", "/admin/auth/user/?q=", "/admin/",
    ],
)  # fmt: skip
def test_a_strange_address_is_no_fault_of_ours(address: str, text: str, world: World, administrator: User) -> None:
    world.connection(administrator)
    client = Client()
    client.force_login(administrator)
    assert client.get(address + text).status_code < 500


def _with(body: Any, text: str) -> Any:
    """The body with the text wherever it says TEXT."""
    if isinstance(body, str):
        return body.replace("TEXT", text)
    if isinstance(body, list):
        return [_with(one, text) for one in body]
    return {_with(name, text): _with(one, text) for name, one in body.items()} if isinstance(body, dict) else body
