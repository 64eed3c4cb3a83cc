"""A client of the official SDK whose person has to connect: it is sent to the link, and its call goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from django.contrib.auth.models import User
from django.utils import timezone
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import UrlElicitationRequiredError
from mcp.types import ElicitRequestURLParams, ElicitResult
from pytest_django import Settings

from connections.models import Connection, McpServer
from gateway.application import Gateway
from mcp_oauth_site.answer_headers import answer_headers
from oauthflow.flows.revoke import revoke_connections
from tests.fakes.world import World
from tests.oauthflow.asgi_calls import in_database
from tests.requirements import requirement

from .sdk_server import SdkServer, listening
from .whole import agree, bearer, move

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class Visitor:
    """Alice, who is connected as long as she does not disconnect, and how often she was sent to a link."""

    world: World
    user: User
    url: str
    headers: dict[str, str]
    sent_to: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def client(self, mode: str, **options: Any) -> AsyncIterator[Client]:
        async with (
            httpx2.AsyncClient(headers=self.headers, timeout=30) as http,
            Client(streamable_http_client(self.url, http_client=http), mode=mode, **options) as client,
        ):
            yield client

    async def connect(self) -> None:
        await in_database(lambda: self.world.connect(self.user, slug="files", now=timezone.now()))

    async def disconnect(self) -> None:
        def disconnect() -> None:
            revoke_connections(list(Connection.objects.all()), actor=self.user, reason="", now=timezone.now())

        await in_database(disconnect)

    async def go(self, context: object, asked: object) -> ElicitResult:
        """Follow the link that the client shows."""
        assert isinstance(asked, ElicitRequestURLParams)
        self.sent_to.append(asked.url)
        await agree(self.world, self.user, asked.url)
        return ElicitResult(action="accept")


@pytest_asyncio.fixture
async def visitor(world: World, alice: User, settings: Settings) -> AsyncIterator[Visitor]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    upstream, gateway = SdkServer(), Gateway(headers_of=partial(answer_headers, path="/mcp/"))

    def prepare(url: str) -> dict[str, str]:
        world.server("files", gateway_enabled=True)
        McpServer.objects.update(url=url)
        move(world, url)
        return bearer(alice)

    async with AsyncExitStack() as stack:
        headers = await in_database(partial(prepare, await stack.enter_async_context(upstream.serving())))
        await gateway.open()
        stack.push_async_callback(gateway.close)
        origin = await stack.enter_async_context(listening(gateway, lifespan="off"))
        yield Visitor(world, alice, f"{origin}/mcp/files", headers)


@requirement("E-01", "G-22")
@pytest.mark.parametrize("mode", ["auto", "2026-07-28"])
async def test_a_modern_client_sends_its_person_to_the_link_and_the_same_call_goes_on(
    visitor: Visitor, mode: str
) -> None:
    await visitor.connect()
    async with visitor.client(mode, elicitation_callback=visitor.go) as client:
        await client.call_tool("whoami")
        await visitor.disconnect()
        result = await client.call_tool("whoami")
        assert result.structured_content is not None
        assert result.structured_content["authorization"].startswith("Bearer at-")
    assert len(visitor.sent_to) == 1


async def test_a_client_that_comes_before_its_person_has_connected_is_told_the_link(visitor: Visitor) -> None:
    for mode in ("auto", "legacy"):
        with pytest.raises((MCPError, ExceptionGroup)) as stopped:
            async with visitor.client(mode):
                pass
        assert "Open this link, then try again: http://localhost:8000/connect/requests/" in _said(stopped.value)
    link = _said(stopped.value).rpartition(" ")[2]
    await agree(visitor.world, visitor.user, link)
    async with visitor.client("auto") as client:
        assert (await client.list_tools()).tools


def _said(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, MCPError), repr(error)
    return error.message


async def test_an_older_client_gets_the_link_as_its_revision_has_it(visitor: Visitor) -> None:
    await visitor.connect()
    async with visitor.client("legacy", elicitation_callback=visitor.go) as client:
        await client.call_tool("whoami")
        await visitor.disconnect()
        with pytest.raises(MCPError) as stopped:
            await client.call_tool("whoami")
    (asked,) = UrlElicitationRequiredError.from_error(stopped.value.error).elicitations
    await agree(visitor.world, visitor.user, asked.url)
    async with visitor.client("legacy") as client:
        assert not (await client.call_tool("whoami")).is_error


async def test_a_client_that_opens_no_links_shows_it_as_the_result_of_the_tool(visitor: Visitor) -> None:
    await visitor.connect()
    for mode in ("legacy", "2026-07-28"):
        async with visitor.client(mode) as client:
            await client.list_tools()
            await visitor.disconnect()
            result = await client.call_tool("whoami")
        assert result.is_error
        said: Any = result.content[0]
        await agree(visitor.world, visitor.user, said.text.rpartition(" ")[2])
