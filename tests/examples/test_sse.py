from __future__ import annotations

import httpx2
from mcp import Client
from mcp.client.sse import sse_client

from .people import Person
from .programs import Program


def _token(program: Program, person: Person, *, sse_url: str, scope: str) -> str:
    url = program.authorization_url(resource=sse_url, scope=scope)
    return program.redeem(person.allow(url)["code"], resource=sse_url).json()["access_token"]


def test_the_sse_server_has_its_own_metadata_and_challenge(sse_url):
    challenged = httpx2.get(sse_url)
    assert challenged.status_code == 401
    metadata_url = sse_url.replace("/sse", "/.well-known/oauth-protected-resource/sse")
    assert f'resource_metadata="{metadata_url}"' in challenged.headers["WWW-Authenticate"]
    assert httpx2.get(metadata_url).json()["resource"] == sse_url


async def test_tools_work_over_sse_and_a_missing_scope_is_a_tool_error(sse_url, program, person):
    token = _token(program, person, sse_url=sse_url, scope="notes:read profile")
    async with Client(sse_client(sse_url, headers={"Authorization": f"Bearer {token}"}), mode="legacy") as client:
        profile = (await client.call_tool("get_user_profile", {})).structured_content
        assert profile["subject"] == "testuser"
        refused = await client.call_tool("create_secure_note", {"title": "a", "content": "b"})
        assert refused.is_error
        assert "notes:write" in refused.content[0].text


def test_a_token_for_the_other_server_is_refused(sse_url, program, person):
    token = program.redeem(person.allow(program.authorization_url())["code"]).json()["access_token"]
    assert httpx2.get(sse_url, headers={"Authorization": f"Bearer {token}"}).status_code == 401
