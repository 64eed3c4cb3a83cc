"""What people read about their programs: for whom, in which form, and what of it works as it stands."""

from __future__ import annotations

import ast
import importlib
import json
import shlex
import subprocess

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from connections.models import McpServer
from gateway.models import InboundTrust
from gateway.pages.snippets import Snippet, snippets

URL = "https://mcp.example.com/mcp/notes"
METADATA = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp/notes"


@pytest.fixture
def server(db: None) -> McpServer:
    return McpServer.objects.create(name="Notes", slug="notes", url="https://notes.example/mcp", gateway_enabled=True)


@pytest.fixture
def browser(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


def of(url: str = URL, *, slug: str = "notes", api_tokens: bool = True) -> dict[str, Snippet]:
    found = snippets(slug, url, metadata_url=METADATA, api_tokens=api_tokens)
    return {snippet.id: snippet for snippet in found}


def test_the_page_shows_the_address_and_what_to_enter_with_a_button_for_each(
    server: McpServer, browser: Client
) -> None:
    page = browser.get("/servers/notes").content.decode()
    assert '<pre tabindex="0" id="gateway-address">http://localhost:8000/mcp/notes</pre>' in page
    assert "claude mcp add --transport http notes http://localhost:8000/mcp/notes" in page
    shown = {snippet.id for snippet in of("http://localhost:8000/mcp/notes", api_tokens=False).values()}
    assert all(f'id="for-{id}"' in page and f'data-copy="for-{id}" hidden' in page for id in shown)
    assert "curl http://localhost:8000/.well-known/oauth-protected-resource/mcp/notes" in page
    assert "MCP_API_TOKEN" not in page
    assert page.count("<script") == 1
    assert "onclick" not in page


def test_scripts_are_told_of_where_api_tokens_are_taken(server: McpServer, browser: Client) -> None:
    InboundTrust.objects.create(server=server, allow_api_tokens=True)
    page = browser.get("/servers/notes").content.decode()
    assert "MCP_API_TOKEN" in page
    assert "create_api_token alice --scope tools:call" in page


def test_where_another_issuer_is_trusted_people_read_where_they_sign_in(server: McpServer, browser: Client) -> None:
    InboundTrust.objects.create(server=server, kind="issuer", issuer="https://login.example/tenant")
    assert "sign in at login.example" in browser.get("/servers/notes").content.decode()


@pytest.mark.parametrize("change", ["off", "local", "inactive", "not theirs", "unknown"])
def test_only_who_may_use_a_server_behind_the_gateway_finds_its_page(
    server: McpServer, browser: Client, change: str
) -> None:
    changes = {
        "off": {"gateway_enabled": False}, "local": {"transport": "stdio"}, "inactive": {"status": "inactive"},
        "unknown": {"slug": "other"},
    }  # fmt: skip
    link = "Use in your programs"
    assert link in browser.get("/connections/").content.decode()
    McpServer.objects.filter(pk=server.pk).update(**changes.get(change, {}))
    if change == "not theirs":
        server.groups.add(Group.objects.create(name="others"))
    assert browser.get("/servers/notes").status_code == 404
    if change != "unknown":
        assert link not in browser.get("/connections/").content.decode()


def test_nobody_reads_it_without_signing_in(server: McpServer) -> None:
    answer = Client().get("/servers/notes")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/accounts/login/?next=/servers/notes")


def test_administrators_find_the_address_and_the_rules_on_the_page_of_the_server(
    server: McpServer, administrator: User
) -> None:
    admin = Client()
    admin.force_login(administrator)
    address = f"/admin/connections/mcpserver/{server.pk}/change/"
    page = admin.get(address).content.decode()
    assert '<code class="site-copy">http://localhost:8000/mcp/notes</code>' in page
    assert f'href="/admin/gateway/inboundtrust/add/?server={server.pk}"' in page
    InboundTrust.objects.create(server=server, allow_api_tokens=True)
    page = admin.get(address).content.decode()
    assert f'href="/admin/gateway/inboundtrust/{server.pk}/change/"' in page
    assert "this site's, and API tokens" in page


# ---- In the form that each program reads


def test_editors_get_their_documents() -> None:
    texts = {id: json.loads(of()[id].text) for id in ("vscode", "cursor", "mcp-remote")}
    assert texts["vscode"] == {"servers": {"notes": {"type": "http", "url": URL}}}
    assert texts["cursor"] == {"mcpServers": {"notes": {"url": URL}}}
    assert texts["mcp-remote"] == {"mcpServers": {"notes": {"command": "npx", "args": ["-y", "mcp-remote", URL]}}}


def test_terminals_get_commands_that_a_shell_reads_as_meant() -> None:
    assert shlex.split(of()["claude-code"].text) == ["claude", "mcp", "add", "--transport", "http", "notes", URL]
    words = shlex.split(of()["curl"].text)
    assert words[:2] == ["curl", URL]
    assert json.loads(words[words.index("-d") + 1])["method"] == "initialize"
    assert "Authorization: Bearer mcp_x" in _said(of()["curl"].text, MCP_API_TOKEN="mcp_x")


def test_without_api_tokens_curl_asks_first_where_access_tokens_come_from() -> None:
    snippet = of(api_tokens=False)["curl"]
    said = _said(snippet.text, ACCESS_TOKEN="eyJ")
    assert said[:2] == [METADATA, URL]
    assert "Authorization: Bearer eyJ" in said
    assert "access token in the variable ACCESS_TOKEN" in snippet.where


def _said(commands: str, **environment: str) -> list[str]:
    """Return what a shell gives curl."""
    shell = ["sh", "-c", "curl() { printf '%s\\n' \"$@\"; }\n" + commands]
    return subprocess.run(shell, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("id", ["python", "python-token"])
def test_python_gets_a_program_of_which_everything_is_in_the_sdk(id: str) -> None:
    tree = ast.parse(of()[id].text)
    compile(tree, id, "exec")
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
    assert f'URL = "{URL}"' in of()[id].text


def test_what_makes_no_sense_for_an_address_is_left_out() -> None:
    plain, local = of("http://mcp.internal/mcp/notes"), of("http://localhost:8000/mcp/notes")
    assert "claude" in of()
    assert "claude" not in plain
    assert "--allow-http" in plain["mcp-remote"].text
    assert "--allow-http" not in local["mcp-remote"].text + of()["mcp-remote"].text
    assert json.loads(of(slug="3d-models")["vscode"].text)["servers"].keys() == {"mcp-3d-models"}
    assert "python-token" not in of(api_tokens=False)
