"""What other Django code gets from `oauthflow.client`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from connections.models import Connection, McpServer, TokenSet
from connections.services import connection_for
from oauthflow.client import AuthorizationRequired, ReauthorizationRequired, aconnect, connect
from oauthflow.egress.mcp_client import McpRefusedError, TokenRefusedError
from oauthflow.egress.mcp_target import McpTarget
from oauthflow.protocol.errors import FlowError, InvalidRequestError, MalformedResponseError
from oauthflow.protocol.secret import Secret
from tests.fakes.world import World
from tests.requirements import requirement


class FakeSdk:
    """Stands where the official SDK would connect: remembers what it was given, answers or refuses in turn."""

    protocol_version = "2025-11-25"

    def __init__(self) -> None:
        self.opened: list[tuple[str, dict[str, str]]] = []
        self.refusals: list[FlowError] = []

    async def with_mcp_client(
        self,
        target: McpTarget,
        *,
        headers: Mapping[str, Secret],
        operation: Callable[[Any], Awaitable[Any]],
        dpop: object = None,
    ) -> Any:
        self.opened.append((target.url, {name: value.reveal() for name, value in headers.items()}))
        if self.refusals:
            raise self.refusals.pop(0)
        return await operation(self)

    @asynccontextmanager
    async def open_mcp_client(
        self, target: McpTarget, *, headers: Mapping[str, Secret], dpop: object = None
    ) -> AsyncIterator[Any]:
        self.opened.append((target.url, {name: value.reveal() for name, value in headers.items()}))
        yield self

    async def list_tools(self, *, cursor: str | None) -> Any:
        names = {None: ["one"], "more": ["two"]}[cursor]
        tools = [SimpleNamespace(model_dump=lambda name=name, **_: {"name": name}) for name in names]
        return SimpleNamespace(tools=tools, next_cursor="more" if cursor is None else None)

    async def call_tool(self, name: str, arguments: dict[str, Any]) -> Any:
        return SimpleNamespace(model_dump=lambda **_: {"content": [{"type": "text", "text": f"{name} {arguments}"}]})


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> FakeSdk:
    fake = FakeSdk()
    monkeypatch.setattr("oauthflow.flows.call_tools.with_mcp_client", fake.with_mcp_client)
    monkeypatch.setattr("oauthflow.client.open_mcp_client", fake.open_mcp_client)
    return fake


@pytest.fixture
def now() -> datetime:
    """`oauthflow.client` reads the clock itself."""
    return timezone.now()


def stored_token() -> str:
    return TokenSet.objects.get().access_token_sealed.reveal().reveal()


@requirement("T-01", "T-02")
def test_tools_are_listed_and_called_with_the_users_token(
    world: World, sdk: FakeSdk, alice: User, now: datetime
) -> None:
    world.connect(alice, now=now)

    with connect("notes", user=alice) as mcp:
        assert mcp.list_tools() == [{"name": "one"}, {"name": "two"}]
        assert mcp.call_tool("search", {"query": "x"})["content"][0]["text"] == "search {'query': 'x'}"

    assert sdk.opened == [("https://mcp.example/mcp", {"Authorization": f"Bearer {stored_token()}"})] * 2


def test_who_never_connected_is_given_the_link(world: World, sdk: FakeSdk, alice: User) -> None:
    world.server()

    with pytest.raises(AuthorizationRequired) as caught, connect("notes", user=alice):
        pass
    assert not isinstance(caught.value, ReauthorizationRequired)
    assert caught.value.authorization_url.startswith("http://localhost:8000/connect/requests/")
    assert caught.value.expires_at > timezone.now()
    assert caught.value.state.reveal() not in caught.value.authorization_url
    assert sdk.opened == []


def test_who_was_connected_is_told_why_it_ended(world: World, sdk: FakeSdk, alice: User, now: datetime) -> None:
    world.connect(alice, now=now - timedelta(hours=2))
    world.authorization_server.refresh_tokens.clear()

    with pytest.raises(ReauthorizationRequired) as caught, connect("notes", user=alice):
        pass
    assert caught.value.reason == "invalid_grant"


def test_a_refused_token_is_renewed_once(world: World, sdk: FakeSdk, alice: User, now: datetime) -> None:
    world.connect(alice, now=now)
    before = stored_token()
    sdk.refusals = [TokenRefusedError(401, 'Bearer error="invalid_token"')]

    with connect("notes", user=alice) as mcp:
        assert mcp.list_tools()

    sent = [headers["Authorization"] for _, headers in sdk.opened]
    assert sent == [f"Bearer {before}", f"Bearer {stored_token()}"]
    assert sent[0] != sent[1]


def test_a_fresh_token_that_is_refused_needs_a_person(world: World, sdk: FakeSdk, alice: User, now: datetime) -> None:
    world.connect(alice, now=now)
    sdk.refusals = [TokenRefusedError(401, "Bearer"), TokenRefusedError(401, "Bearer")]

    with connect("notes", user=alice) as mcp, pytest.raises(ReauthorizationRequired) as caught:
        mcp.list_tools()
    assert caught.value.reason == "fresh_token_refused"
    assert Connection.objects.get().status == "reauth_required"


@requirement("S-07", "S-02")
def test_too_little_scope_becomes_a_link_that_asks_for_more(
    world: World, sdk: FakeSdk, alice: User, now: datetime
) -> None:
    world.connect(alice, now=now)
    sdk.refusals = [TokenRefusedError(403, 'Bearer error="insufficient_scope", scope="write"')]

    with connect("notes", user=alice) as mcp, pytest.raises(ReauthorizationRequired) as caught:
        mcp.call_tool("write")
    assert caught.value.reason == "insufficient_scope"
    assert Connection.objects.get().authorization_requests.filter(scope="write").count() == 1


def test_a_refusal_without_a_way_on_is_the_tools_answer(world: World, sdk: FakeSdk, alice: User, now: datetime) -> None:
    world.connect(alice, now=now)
    sdk.refusals = [McpRefusedError("no such tool"), TokenRefusedError(403, ""), McpRefusedError("no")]

    with connect("notes", user=alice) as mcp:
        assert mcp.call_tool("x") == {"content": [{"type": "text", "text": "no such tool"}], "isError": True}
        assert mcp.call_tool("x")["isError"]
        with pytest.raises(MalformedResponseError):
            mcp.list_tools()


def test_a_fixed_credential_that_is_refused_is_no_matter_for_the_user(world: World, sdk: FakeSdk, alice: User) -> None:
    world.server(auth_type="bearer")
    sdk.refusals = [TokenRefusedError(401, "Bearer")]

    with connect("notes", user=alice) as mcp, pytest.raises(MalformedResponseError):
        mcp.list_tools()


def test_a_server_that_is_not_for_this_user_is_not_there(world: World, sdk: FakeSdk, alice: User, bob: User) -> None:
    world.server().users.add(alice)

    with pytest.raises(McpServer.DoesNotExist), connect("notes", user=bob):
        pass


def test_a_label_names_one_of_several_accounts(world: World, sdk: FakeSdk, alice: User, now: datetime) -> None:
    world.connect(alice, now=now)
    connection_for(alice, world.server(), label="work", actor=alice)

    with connect("notes", user=alice):
        pass
    with pytest.raises(AuthorizationRequired), connect("notes", user=alice, label="work"):
        pass


def test_a_shared_server_that_nobody_connected_is_a_matter_for_administrators(
    world: World, sdk: FakeSdk, alice: User
) -> None:
    world.server(connection_policy="shared")

    with pytest.raises(InvalidRequestError), connect("notes", user=alice):
        pass


@pytest.fixture
def connected(world: World, alice: User, now: datetime) -> Connection:
    return world.connect(alice, now=now)


@pytest.fixture
def configured(world: World) -> McpServer:
    return world.server()


@pytest.mark.django_db(transaction=True)
async def test_asynchronous_code_gets_the_official_client(sdk: FakeSdk, connected: Connection, alice: User) -> None:
    async with aconnect("notes", user=alice) as client:
        assert client is sdk
    assert [*sdk.opened[0][1]] == ["Authorization"]


@pytest.mark.django_db(transaction=True)
async def test_asynchronous_code_is_given_the_link_as_well(sdk: FakeSdk, configured: McpServer, alice: User) -> None:
    with pytest.raises(AuthorizationRequired):
        async with aconnect("notes", user=alice):
            pass
