"""An access token of ours expires while something is open: answers to calls go on, and end with everything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from authserver.resources import gateway_resource
from tests.authserver.grants import make_client, make_consent, make_family, mint
from tests.fakes.world import World
from tests.oauthflow.asgi_calls import in_database
from tests.requirements import requirement

from .front import LEGACY, MODERN, Client, Front, legacy_call, modern_call
from .test_rights_through import ENDINGS
from .upstream import RESULT, answers, streams
from .whole import connect, whole

pytestmark = pytest.mark.django_db(transaction=True)
SKEW_SECONDS = 10  # so long a token is taken after its end
LEFT_SECONDS = 2
LISTEN = {**MODERN, "Mcp-Method": "subscriptions/listen", "Mcp-Name": None}
NOTE, ANSWER = b"data: {}\n\n", b"data: " + RESULT + b"\n\n"


@dataclass
class Calls:
    """Two calls that wait for their answers, with a token that has just expired."""

    front: Front
    clients: list[Client]
    answer: asyncio.Event

    async def left(self) -> None:
        """Wait until the server has nobody any more who waits."""
        async with asyncio.timeout(5):
            for seen in self.front.upstream.seen[: len(self.clients)]:
                await seen.left.wait()


def _headers(user: User) -> dict[str, str]:
    """Return the header with a token that is taken for two more seconds."""
    family = make_family(make_consent(user, make_client("program"), resource=gateway_resource("files")))
    expires_at = int(timezone.now().timestamp()) + LEFT_SECONDS - SKEW_SECONDS
    return {"Authorization": f"Bearer {mint(family, issued_at=expires_at - 60, seconds=60)}"}


@pytest_asyncio.fixture
async def calls(world: World, alice: User, bob: User, settings: Settings) -> AsyncIterator[Calls]:
    settings.GATEWAY = {"rights_seconds": 0.05}
    await in_database(lambda: connect(world, alice))
    async with whole(settings) as front:
        answer = asyncio.Event()
        headers = await in_database(lambda: _headers(alice))
        front.upstream.behave = streams(NOTE, answer.wait, ANSWER)
        clients = [front.open(modern_call(), {**MODERN, **headers}), front.open(legacy_call(), {**LEGACY, **headers})]
        for client in clients:
            assert (await client.start()).status == 200
            await client.piece()
        for body, own in (b"", LEGACY), (modern_call(method="subscriptions/listen"), LISTEN):
            ended = await front.ask(body, {**own, **headers}, method="POST" if body else "GET")
            assert (ended.status, ended.is_whole) == (200, True)  # what stays open ends with the token
        front.upstream.behave = answers()
        async with asyncio.timeout(5):
            while (await front.ask(modern_call(), {**MODERN, **headers})).status != 401:
                await asyncio.sleep(0.1)
        yield Calls(front, clients, answer)


@requirement("G-24")
async def test_an_answer_to_a_call_may_outlive_the_token_that_it_came_with(calls: Calls) -> None:
    await asyncio.sleep(0.5)  # in which all rights are asked for, several times
    calls.answer.set()
    for client in calls.clients:
        received = await client.end()
        assert (received.is_whole, received.body) == (True, NOTE + ANSWER)


@requirement("G-24", "G14")
@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
async def test_but_no_other_right(calls: Calls, ending: Callable[[], Any]) -> None:
    await in_database(ending)
    for client in calls.clients:
        async with asyncio.timeout(5):
            received = await client.end()
        assert (received.is_whole, ANSWER in received.body) == (True, False)
        assert b"The right to this has ended." in received.body
    await calls.left()
