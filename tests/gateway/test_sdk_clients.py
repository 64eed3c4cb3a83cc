"""A client and a server of the official SDK with the gateway between them, in both eras."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from django.contrib.auth.models import User
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitResult
from pytest_django import Settings

from connections.models import McpServer, TokenSet
from gateway.application import Gateway
from gateway.models import LegacySession
from mcp_oauth_site.answer_headers import answer_headers
from tests.fakes.world import World
from tests.oauthflow.asgi_calls import in_database
from tests.requirements import requirement

from .sdk_server import SdkServer, listening
from .whole import bearer, connect

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class Stage:
    """The gateway's address for the server, the server, and two people."""

    url: str
    upstream: SdkServer
    headers: dict[str, dict[str, str]]
    tokens: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def client(self, who: str, mode: str, **options: Any) -> AsyncIterator[Client]:
        async with (
            httpx2.AsyncClient(headers=self.headers[who], timeout=30) as http,
            Client(streamable_http_client(self.url, http_client=http), mode=mode, **options) as client,
        ):
            yield client


@pytest.fixture
def people(world: World, alice: User, bob: User) -> dict[str, User]:
    return {"alice": alice, "bob": bob}


@pytest_asyncio.fixture
async def stage(people: dict[str, User], world: World, settings: Settings) -> AsyncIterator[Stage]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    # The client itself takes no event of more than a MiB, and which of two equal limits is met first is chance.
    settings.GATEWAY = {**settings.GATEWAY, "event_line_bytes": 512 * 1024}
    upstream, gateway = SdkServer(), Gateway(headers_of=partial(answer_headers, path="/mcp/"))
    headers, tokens = {}, {}

    def prepare(url: str) -> None:
        for name, user in people.items():
            connection = connect(world, user)
            headers[name] = bearer(user)
            sealed = TokenSet.objects.get(connection=connection).access_token_sealed
            tokens[name] = f"Bearer {sealed.reveal().reveal()}"
        McpServer.objects.update(url=url)

    async with AsyncExitStack() as stack:
        await in_database(partial(prepare, await stack.enter_async_context(upstream.serving())))
        await gateway.open()
        stack.push_async_callback(gateway.close)
        origin = await stack.enter_async_context(listening(gateway, lifespan="off"))
        yield Stage(f"{origin}/mcp/files", upstream, headers, tokens)


async def said(client: Client) -> dict[str, str]:
    result = await client.call_tool("whoami")
    assert isinstance(result.structured_content, dict)
    return result.structured_content


@requirement("G-01", "G-11", "G-12", "G-16")
async def test_a_client_of_the_older_era_begins_uses_and_ends_a_session(stage: Stage) -> None:
    async with stage.client("alice", "legacy") as client:
        assert client.protocol_version == "2025-11-25"
        first, second = await said(client), await said(client)
        assert first == second
        assert first["authorization"] == stage.tokens["alice"]
        assert first["session"]
        assert await in_database(LegacySession.objects.count) == 1
    assert await in_database(LegacySession.objects.count) == 0


@requirement("G-18")
async def test_what_happens_in_a_session_reaches_the_stream_of_its_client(stage: Stage) -> None:
    heard: dict[str, set[str]] = {"alice": set(), "bob": set()}

    async def hear(who: str, message: Any) -> None:
        heard[who].add(type(message).__name__)

    async with (
        stage.client("alice", "legacy", message_handler=partial(hear, "alice")) as alice,
        stage.client("bob", "legacy", message_handler=partial(hear, "bob")) as bob,
    ):
        async with asyncio.timeout(30):
            while not heard["alice"]:  # the stream is opened beside the first calls
                await alice.call_tool("announce")
        await bob.list_tools()
    assert heard == {"alice": {"ToolListChangedNotification"}, "bob": set()}


async def test_a_server_of_the_older_era_asks_its_client_back(stage: Stage) -> None:
    async def reply(who: str, *asked: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"name": who})

    async with (
        stage.client("alice", "legacy", elicitation_callback=partial(reply, "Alice")) as alice,
        stage.client("bob", "legacy", elicitation_callback=partial(reply, "Bob")) as bob,
    ):
        asked = await asyncio.gather(*(client.call_tool("ask") for client in (alice, bob)))
    assert [result.structured_content for result in asked] == [{"result": "Alice"}, {"result": "Bob"}]


@requirement("G-11", "G-17", "G-18")
async def test_a_stream_that_broke_off_is_gone_on_with_after_its_last_event(stage: Stage) -> None:
    steps: list[float] = []

    async def step(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async with stage.client("alice", "legacy") as client:
        result = await client.call_tool("interrupted", progress_callback=step)
    assert result.structured_content == {"result": "the rest"}
    assert steps == [1, 2]
    assert stage.upstream.events.asked_after


@requirement("G-10", "G13")
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_whose_answer_is_too_long_is_told_so_and_waits_for_nothing(stage: Stage, mode: str) -> None:
    async def step(progress: float, total: float | None, message: str | None) -> None:
        """Whoever wants to hear of steps is answered with events."""

    async with stage.client("alice", mode) as client, asyncio.timeout(10):
        much = partial(client.call_tool, "much", progress_callback=step)
        assert (await much({"length": 100_000})).structured_content == {"result": "x" * 100_000}
        with pytest.raises(MCPError, match="The server's answer is too long."):
            await much({"length": 2_000_000})
        assert (await much({"length": 1})).structured_content == {"result": "x"}


@requirement("G-14", "G-16")
@pytest.mark.parametrize("mode", ["auto", "2026-07-28"])
async def test_a_client_of_the_modern_era_has_no_session(stage: Stage, mode: str) -> None:
    async with stage.client("alice", mode) as alice, stage.client("bob", mode) as bob:
        assert alice.protocol_version == bob.protocol_version == "2026-07-28"
        assert await said(alice) == {"authorization": stage.tokens["alice"], "session": ""}
        assert await said(bob) == {"authorization": stage.tokens["bob"], "session": ""}
    assert await in_database(LegacySession.objects.count) == 0


@requirement("G-16", "G-23")
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_learns_of_the_server_what_it_learns_without_the_gateway(stage: Stage, mode: str) -> None:
    async with stage.client("alice", mode) as through, Client(stage.upstream.url, mode=mode) as direct:
        assert through.protocol_version == direct.protocol_version
        assert through.server_capabilities == direct.server_capabilities
        assert through.server_info == direct.server_info
        assert await through.list_tools() == await direct.list_tools()


@requirement("G-18", "G-19")
async def test_a_subscription_brings_its_own_client_what_it_asked_for(stage: Stage) -> None:
    async with (
        stage.client("alice", "auto") as alice,
        stage.client("bob", "auto") as bob,
        alice.listen(tools_list_changed=True) as of_tools,
        bob.listen(prompts_list_changed=True) as of_prompts,
    ):
        await alice.call_tool("publish")
        async with asyncio.timeout(30):
            first = [type(await anext(of_one)).__name__ for of_one in (of_tools, of_prompts)]
        assert first == ["ToolsListChanged", "PromptsListChanged"]


@requirement("G-09", "G-16")
async def test_a_client_of_both_eras_falls_back_where_the_server_knows_the_older_one_only(stage: Stage) -> None:
    stage.upstream.is_old = True
    async with stage.client("alice", "auto") as client:
        assert client.protocol_version == "2025-11-25"
        assert (await said(client))["session"]
