"""Open streams through the whole gateway: what is done to a right, by whatever face, closes what was opened with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from authserver.flows.end_tokens import end_families
from authserver.models import TokenFamily
from connections.models import Connection, McpServer
from gateway.models import ServerPolicy
from oauthflow.flows.revoke import revoke_connection
from tests.fakes.world import World
from tests.oauthflow.asgi_calls import in_database
from tests.requirements import requirement

from .front import LEGACY, MODERN, Client, Front, modern_call
from .upstream import streams
from .whole import bearer, connect, whole

pytestmark = pytest.mark.django_db(transaction=True)
METADATA = "/.well-known/oauth-protected-resource/mcp/files"


def _deactivate() -> None:
    user = User.objects.get(username="alice")
    user.is_active = False
    user.save()


def _revoke() -> None:
    end_families(TokenFamily.objects.filter(user__username="alice"), reason="test", now=timezone.now())


def _disconnect() -> None:
    connection = Connection.objects.get()
    revoke_connection(connection, actor=connection.user, reason="", now=timezone.now())


ENDINGS: dict[str, Callable[[], Any]] = {
    "person deactivated": _deactivate,
    "tokens revoked": _revoke,
    "disconnected": _disconnect,
    "server switched off": lambda: McpServer.objects.update(status=McpServer.Status.INACTIVE),
    "gateway switched off": lambda: McpServer.objects.update(gateway_enabled=False),
    "not theirs any more": lambda: McpServer.objects.get().users.add(User.objects.get(username="bob")),
}


@pytest.fixture
def headers(world: World, alice: User, bob: User) -> dict[str, str]:
    connect(world, alice)
    return bearer(alice)


@pytest_asyncio.fixture
async def front(headers: dict[str, str], settings: Settings) -> AsyncIterator[Front]:
    settings.GATEWAY = {"rights_seconds": 0.1}
    async with whole(settings) as opened:
        yield opened


@requirement("G-24", "G14")
@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
async def test_what_ends_a_right_closes_its_streams(
    front: Front, headers: dict[str, str], ending: Callable[[], Any]
) -> None:
    front.upstream.behave = streams(b"data: {}\n\n", asyncio.Event().wait)
    listen = {**MODERN, **headers, "Mcp-Method": "subscriptions/listen", "Mcp-Name": None}
    clients = [
        front.open(modern_call(method="subscriptions/listen"), listen),
        front.open(b"", {**LEGACY, **headers}, method="GET"),
    ]
    for client in clients:
        assert (await client.start()).status == 200
        await client.piece()
    await in_database(ending)
    for client in clients:
        async with asyncio.timeout(5):
            assert (await client.end()).is_whole
    for seen in front.upstream.seen:
        async with asyncio.timeout(5):
            await seen.left.wait()


@requirement("G-20", "G14")
async def test_a_stream_does_not_go_on_with_tools_that_a_policy_has_taken_away(
    front: Front, headers: dict[str, str]
) -> None:
    """What a GET stream may repeat, such as a list of tools, is what its client might see when it was opened."""
    front.upstream.behave = streams(b"data: {}\n\n", asyncio.Event().wait)

    async def opened() -> Client:
        client = front.open(b"", {**LEGACY, **headers}, method="GET")
        await client.start()
        await client.piece()
        return client

    def forbid() -> None:
        ServerPolicy.objects.create(server=McpServer.objects.get(), tools="denied", tool_patterns="delete")

    before = await opened()
    await in_database(forbid)
    async with asyncio.timeout(5):
        assert (await before.end()).is_whole
    again = await opened()
    await asyncio.sleep(0.5)  # in which it is asked for several times
    assert not again.task.done()


@requirement("D-01", "D-02", "D-03", "S-11", "S-13", "X-08")
async def test_the_metadata_name_the_address_and_where_to_get_a_token(front: Front, headers: dict[str, str]) -> None:
    answer = await front.ask(b"", {"Authorization": None, "Origin": "https://any.example"}, method="GET", path=METADATA)
    assert (answer.status, answer.header("access-control-allow-origin")) == (200, "*")
    assert answer.json() == {
        "resource": "http://localhost:8000/mcp/files",
        "authorization_servers": ["http://localhost:8000"],
        "scopes_supported": ["mcp:access"],
        "bearer_methods_supported": ["header"],
        "resource_name": answer.json()["resource_name"],
    }
    head = await front.ask(b"", {"Authorization": None}, method="HEAD", path=METADATA)
    assert (head.status, head.body) == (200, b"")
    assert head.header("content-length") == answer.header("content-length")
    assert (await front.ask(b"{}", headers, path=METADATA)).status == 405
    assert (await front.ask(b"", {}, method="GET", path=METADATA.replace("files", "other"))).status == 404
    challenged = await front.ask(modern_call(), {**MODERN, "Authorization": None})
    assert f'resource_metadata="http://localhost:8000{METADATA}"' in (challenged.header("www-authenticate") or "")
    assert front.upstream.seen == []
