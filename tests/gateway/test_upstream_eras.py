"""Our own calls to a server, to list its tools: the modern way first, and the old one where that is all it knows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from aiohttp import web
from mcp import Client
from pytest_django import Settings

from oauthflow.egress.mcp_client import with_mcp_client
from oauthflow.egress.mcp_target import McpTarget
from oauthflow.protocol.secret import Secret
from tests.requirements import requirement

from .upstream import Behaviour, Upstream, serving

_VERSION = "io.modelcontextprotocol/protocolVersion"
TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
INFO = {"serverInfo": {"name": "files", "version": "1"}, "capabilities": {"tools": {}}}
MODERN: dict[str, dict[str, Any]] = {
    "server/discover": {
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        **INFO,
        "ttlMs": 0,
        "cacheScope": "private",
    },
    "tools/list": {"resultType": "complete", "tools": [TOOL], "ttlMs": 0, "cacheScope": "private"},
}
LEGACY: dict[str, dict[str, Any]] = {
    "initialize": {"protocolVersion": "2025-11-25", **INFO},
    "tools/list": {"tools": [TOOL]},
}


def _knows(results: dict[str, dict[str, Any]]) -> Behaviour:
    """Answer these methods, and everything else with a bare 400 as older servers do."""

    async def behave(request: web.Request) -> web.StreamResponse:
        message = await request.json()
        if "id" not in message:
            return web.Response(status=202)
        if message["method"] not in results:
            return web.Response(status=400)
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": results[message["method"]]})

    return behave


@pytest_asyncio.fixture
async def upstream(settings: Settings) -> AsyncIterator[Upstream]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    async with serving() as server:
        yield server


async def _tools(upstream: Upstream) -> list[str]:
    async def listed(client: Client) -> list[str]:
        return [tool.name for tool in (await client.list_tools()).tools]

    target = McpTarget("streamable_http", url=upstream.url)
    return await with_mcp_client(target, headers={"Authorization": Secret("Bearer upstream")}, operation=listed)


def _methods(upstream: Upstream) -> list[str]:
    return [json.loads(seen.body)["method"] for seen in upstream.seen if seen.method == "POST"]


@requirement("G-15", "G-25")
async def test_a_modern_server_is_asked_the_modern_way(upstream: Upstream) -> None:
    upstream.behave = _knows(MODERN)
    assert await _tools(upstream) == ["echo"]
    assert _methods(upstream) == ["server/discover", "tools/list"]
    for seen in upstream.seen:
        message = json.loads(seen.body)
        assert message["params"]["_meta"][_VERSION] == seen.header("Mcp-Protocol-Version") == "2026-07-28"
        assert seen.header("Mcp-Method") == message["method"]
        assert {"application/json", "text/event-stream"} <= set(str(seen.header("Accept")).replace(" ", "").split(","))
        assert seen.header("Authorization") == "Bearer upstream"


@requirement("G-15", "G-25")
async def test_an_older_server_is_asked_the_modern_way_first_and_then_its_own(upstream: Upstream) -> None:
    upstream.behave = _knows(LEGACY)
    assert await _tools(upstream) == ["echo"]
    methods = _methods(upstream)
    assert methods[:2] == ["server/discover", "initialize"]
    assert methods[-1] == "tools/list"
    assert upstream.seen[-1].header("Mcp-Method") is None


@requirement("G-15")
async def test_what_an_older_server_speaks_is_remembered_until_it_speaks_otherwise(upstream: Upstream) -> None:
    upstream.behave = _knows(LEGACY)
    await _tools(upstream)
    upstream.seen.clear()
    assert await _tools(upstream) == ["echo"]
    assert _methods(upstream)[0] == "initialize"

    upstream.behave = _knows(MODERN)
    upstream.seen.clear()
    assert await _tools(upstream) == ["echo"]
    assert _methods(upstream) == ["initialize", "server/discover", "tools/list"]
    assert await _tools(upstream) == ["echo"]
    assert _methods(upstream)[3:] == ["server/discover", "tools/list"]
