"""Our own calls to a server, to list its tools: the modern way first, and the old one where that is all it knows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from aiohttp import web
from mcp import Client
from mcp.types import TextContent
from pytest_django import Settings

from oauthflow.egress.mcp_client import with_mcp_client
from oauthflow.egress.mcp_target import McpTarget
from oauthflow.flows.call_tools import called
from oauthflow.protocol.errors import MalformedResponseError
from oauthflow.protocol.secret import Secret
from tests.requirements import requirement

from .upstream import Behaviour, Upstream, serving

Result = TypeVar("Result")
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
CALLED: dict[str, Any] = {"resultType": "complete", "content": [{"type": "text", "text": "Sunny"}]}
CITY = {"type": "string", "x-mcp-header": "City"}
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
        result = results[message["method"]]
        if "pages" in result:
            result = result["pages"][int(message["params"].get("cursor", 0))]
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})

    return behave


@pytest_asyncio.fixture
async def upstream(settings: Settings) -> AsyncIterator[Upstream]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    async with serving() as server:
        yield server


async def _tools(upstream: Upstream) -> list[str]:
    async def listed(client: Client) -> list[str]:
        return [tool.name for tool in (await client.list_tools()).tools]

    return await _asked(upstream, listed)


async def _call(upstream: Upstream, name: str, **arguments: Any) -> str:
    async def call(client: Client) -> str:
        (content,) = (await called(client, name, arguments)).content
        assert isinstance(content, TextContent)
        return content.text

    return await _asked(upstream, call)


async def _asked(upstream: Upstream, operation: Callable[[Client], Awaitable[Result]]) -> Result:
    target = McpTarget("streamable_http", url=upstream.url)
    return await with_mcp_client(target, headers={"Authorization": Secret("Bearer upstream")}, operation=operation)


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


def _offering(*tools: tuple[str, dict[str, Any]], result: dict[str, Any] = CALLED) -> dict[str, dict[str, Any]]:
    """What a server of 2026-07-28 answers, one tool to a page."""
    pages = [
        {**MODERN["tools/list"], "tools": [{"name": name, "inputSchema": {"type": "object", "properties": properties}}]}
        for name, properties in tools
    ]
    for number, page in enumerate(pages[:-1], start=1):
        page["nextCursor"] = str(number)
    return {**MODERN, "tools/call": result, "tools/list": {"pages": pages}}


@requirement("G-25")
async def test_a_call_repeats_its_name_and_the_arguments_that_the_tool_describes_in_headers(upstream: Upstream) -> None:
    offered = _offering(
        ("other", {}), ("\u00e4cho", {"city": CITY, "days": {"type": "integer", "x-mcp-header": "Days"}})
    )
    upstream.behave = _knows(offered)
    assert await _call(upstream, "\u00e4cho", city="K\u00f6ln", days=3, free="x") == "Sunny"
    call = next(seen for seen in upstream.seen if seen.header("Mcp-Method") == "tools/call")
    assert (call.header("Mcp-Name"), call.header("Mcp-Param-Days")) == ("=?base64?w6RjaG8=?=", "3")
    assert call.header("Mcp-Param-City") == "=?base64?S8O2bG4=?="
    repeated = {name.lower() for name, _ in call.headers if name.lower().startswith("mcp-param-")}
    assert repeated == {"mcp-param-city", "mcp-param-days"}


@requirement("G-25")
@pytest.mark.parametrize(
    "wrong", [{"city": {**CITY, "x-mcp-header": "a b"}}, {"city": {**CITY, "type": "number"}}, {"a": CITY, "b": CITY}]
)
async def test_a_tool_that_describes_headers_wrongly_is_left_out(upstream: Upstream, wrong: dict[str, Any]) -> None:
    tools = [
        {"name": name, "inputSchema": {"type": "object", "properties": properties}}
        for name, properties in (("wrong", wrong), ("right", {"city": CITY}))
    ]
    upstream.behave = _knows({**MODERN, "tools/list": {**MODERN["tools/list"], "tools": tools}})
    assert await _tools(upstream) == ["right"]


@requirement("G-25")
async def test_a_result_without_a_type_is_complete(upstream: Upstream) -> None:
    answers = _offering(("echo", {}), result={"content": CALLED["content"]})
    for result in (answers["server/discover"], *answers["tools/list"]["pages"]):
        result.pop("resultType")
    upstream.behave = _knows(answers)
    assert (await _tools(upstream), await _call(upstream, "echo")) == (["echo"], "Sunny")


@requirement("G-25")
async def test_a_result_of_an_unknown_type_is_invalid(upstream: Upstream) -> None:
    upstream.behave = _knows({**MODERN, "tools/list": {**MODERN["tools/list"], "resultType": "partial"}})
    with pytest.raises(MalformedResponseError):
        await _tools(upstream)
    upstream.behave = _knows(_offering(("echo", {}), result={**CALLED, "resultType": "partial"}))
    with pytest.raises(MalformedResponseError):
        await _call(upstream, "echo")


@requirement("G-25")
async def test_an_older_server_may_have_a_member_of_that_name(upstream: Upstream) -> None:
    upstream.behave = _knows({**LEGACY, "tools/list": {"tools": [TOOL], "resultType": "mine"}})
    assert await _tools(upstream) == ["echo"]
