"""A sign-in service that hangs keeps those waiting who wait for it, and nobody else from the database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from connections.models import Connection, TokenSet
from oauthflow.protocol.secret import Secret
from tests.fakes.internet import Answer, Call
from tests.fakes.world import World
from tests.faults import fault

from .front import LEGACY, MODERN, Front, legacy_call, modern_call
from .upstream import answers
from .whole import bearer, connect, whole

pytestmark = pytest.mark.django_db(transaction=True)
WAITING = 30  # far more than a process has connections to its database


class Hanging:
    """In front of the sign-in service: says nothing to a token request until it `goes_on`."""

    def __init__(self, world: World) -> None:
        self.goes_on, self.waiting = threading.Event(), 0
        self._behind = world.authorization_server
        world.internet[self._behind.issuer] = self

    def __call__(self, call: Call) -> Answer:
        if call.path.endswith("/token"):
            self.waiting += 1
            self.goes_on.wait(30)
        return self._behind(call)


@pytest.fixture
def hanging(world: World, alice: User, bob: User) -> Iterator[Hanging]:
    """Alice has many connections whose tokens have ended, and Bob one that works."""
    connect(world, bob)
    given = TokenSet.objects.get()
    for number in range(WAITING):
        connection = Connection.objects.create(
            server=given.connection.server, user=alice, label=f"c{number}", status="active", issuer=given.issuer
        )
        TokenSet.objects.create(
            connection=connection, access_token_sealed=Secret(f"a{number}"), refresh_token_sealed=Secret(f"r{number}"),
            obtained_at=given.obtained_at, expires_at=timezone.now(), refresh_due_at=given.refresh_due_at,
            issuer=given.issuer, token_endpoint=given.token_endpoint, client_id=given.client_id, auth_method="none",
        )  # fmt: skip
        world.authorization_server.refresh_tokens[f"r{number}"] = "read"
    found = Hanging(world)
    yield found
    found.goes_on.set()


@pytest.fixture
def alices(hanging: Hanging, alice: User) -> dict[str, str]:
    return bearer(alice)


@pytest.fixture
def bobs(hanging: Hanging, bob: User) -> dict[str, str]:
    return bearer(bob)


@pytest_asyncio.fixture
async def front(alices: dict[str, str], bobs: dict[str, str], settings: Settings) -> AsyncIterator[Front]:
    async with whole(settings) as opened:
        yield opened


@fault("F18")
async def test_whoever_waits_for_a_sign_in_service_keeps_no_connection_to_the_database(
    front: Front, hanging: Hanging, alices: dict[str, str], bobs: dict[str, str]
) -> None:
    front.upstream.behave = answers(headers={"Mcp-Session-Id": "s"})
    waiting = [
        front.open(modern_call(), {**MODERN, **alices}, query=b"label=c%d" % number) for number in range(WAITING)
    ]
    async with asyncio.timeout(20):
        while hanging.waiting < 16:
            await asyncio.sleep(0.01)
    for _ in range(5):
        assert (await front.ask(modern_call(), {**MODERN, **bobs})).status == 200
        begun = await front.ask(legacy_call(method="initialize"), {**LEGACY, **bobs})
        assert (begun.status, bool(begun.header("mcp-session-id"))) == (200, True)
    hanging.goes_on.set()
    for client in waiting:
        await client.end()
