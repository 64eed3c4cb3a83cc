from __future__ import annotations

import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from .people import Person
from .programs import Program

_ROOT = Path(__file__).parents[2]
_CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
_ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture
def access_token(program: Program, person: Person) -> str:
    return program.redeem(person.allow(program.authorization_url())["code"]).json()["access_token"]


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _connected(stack: AsyncExitStack, url: str, *, token: str, mode: str) -> Client:
    http = await stack.enter_async_context(httpx2.AsyncClient(headers=_bearer(token), timeout=10))
    return await stack.enter_async_context(Client(streamable_http_client(url, http_client=http), mode=mode))


def test_a_request_without_a_token_is_challenged_and_leads_to_the_authorization_server(notes_url, issuer):
    challenged = httpx2.post(notes_url, json=_CALL, headers=_ACCEPT)
    assert challenged.status_code == 401
    metadata_url = notes_url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp")
    assert f'resource_metadata="{metadata_url}"' in challenged.headers["WWW-Authenticate"]
    metadata = httpx2.get(metadata_url).json()
    assert metadata["resource"] == notes_url
    assert metadata["authorization_servers"] == [issuer]
    assert metadata["scopes_supported"] == ["notes:read", "notes:write", "profile"]


@pytest.mark.parametrize(("mode", "version"), [("legacy", "2025-11-25"), ("2026-07-28", "2026-07-28")])
async def test_tools_and_resources_work_in_both_eras(notes_url, access_token, mode, version):
    async with AsyncExitStack() as stack:
        client = await _connected(stack, notes_url, token=access_token, mode=mode)
        assert client.protocol_version == version
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert tools == {"get_user_profile", "create_secure_note", "list_secure_notes", "get_api_usage"}
        profile = (await client.call_tool("get_user_profile", {})).structured_content
        assert profile["subject"] == "testuser"
        note = (await client.call_tool("create_secure_note", {"title": "Milk", "content": "Two"})).structured_content
        notes = (await client.call_tool("list_secure_notes", {})).structured_content["notes"]
        assert notes[0] == note
        usage = (await client.call_tool("get_api_usage", {})).structured_content
        assert usage["calls_by_tool"]["create_secure_note"] >= 1
        contents = (await client.read_resource(f"user://notes/{note['note_id']}")).contents
        assert contents[0].text == "Milk\n\nTwo"
        contents = (await client.read_resource("user://profile")).contents
        assert json.loads(contents[0].text)["subject"] == "testuser"


async def test_one_person_does_not_see_the_notes_of_another(notes_url, access_token, program, issuer):
    with httpx2.Client() as http:
        stranger = Person(http, issuer=issuer)
        login = stranger.open(program.authorization_url())
        consent = stranger.sign_in(login, username="seconduser", password="secondpass")
        stranger_token = program.redeem(stranger.decide(consent)["code"]).json()["access_token"]
    async with AsyncExitStack() as stack:
        owner = await _connected(stack, notes_url, token=access_token, mode="auto")
        other = await _connected(stack, notes_url, token=stranger_token, mode="auto")
        created = await owner.call_tool("create_secure_note", {"title": "Mine", "content": "only"})
        note_id = created.structured_content["note_id"]
        notes = (await other.call_tool("list_secure_notes", {})).structured_content["notes"]
        assert note_id not in {note["note_id"] for note in notes}
        with pytest.raises(Exception, match="no such note"):
            await other.read_resource(f"user://notes/{note_id}")


@pytest.mark.parametrize(
    ("method", "params", "needed"),
    [
        ("tools/call", {"name": "create_secure_note", "arguments": {"title": "a", "content": "b"}}, "notes:write"),
        ("resources/read", {"uri": "user://profile"}, "profile"),
    ],
)
def test_a_missing_scope_is_a_403_that_names_it(notes_url, program, person, method, params, needed):
    url = program.authorization_url(scope="notes:read")
    token = program.redeem(person.allow(url)["code"]).json()["access_token"]
    message = _CALL | {"method": method, "params": params}
    refused = httpx2.post(notes_url, json=message, headers=_ACCEPT | _bearer(token))
    challenge = refused.headers["WWW-Authenticate"]
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in challenge
    assert f'scope="{needed}"' in challenge
    assert "/.well-known/oauth-protected-resource/mcp" in challenge


def test_a_revoked_token_is_challenged(notes_url, program, access_token):
    accepted = httpx2.post(notes_url, json={}, headers=_ACCEPT | _bearer(access_token))
    assert accepted.status_code == 400
    program.revoke(access_token)
    assert httpx2.post(notes_url, json={}, headers=_ACCEPT | _bearer(access_token)).status_code == 401


async def test_over_stdio_the_environment_says_who_is_calling(tmp_path):
    arguments = ["-m", "examples.notes_server", "--transport", "stdio", "--data", str(tmp_path)]
    environment = {"NOTES_USER": "somebody", "PATH": os.environ["PATH"]}
    parameters = StdioServerParameters(command=sys.executable, args=arguments, env=environment, cwd=_ROOT)
    async with Client(parameters) as client:
        profile = (await client.call_tool("get_user_profile", {})).structured_content
        assert (profile["subject"], profile["client_id"]) == ("somebody", "stdio")
        await client.call_tool("create_secure_note", {"title": "Milk", "content": "Two"})
        assert len((await client.call_tool("list_secure_notes", {})).structured_content["notes"]) == 1
