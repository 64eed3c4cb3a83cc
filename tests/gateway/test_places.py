"""Calls at the same time: so many of a person, so many of all; further ones are told when to come again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from pytest_django import Settings

from tests.requirements import requirement

from .front import LEGACY, MODERN, Client, Front, legacy_call, modern_call, standing

BOB, CAROL = ({**MODERN, "Authorization": f"Bearer {name}"} for name in ("bob", "carol"))


@pytest_asyncio.fixture
async def front(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> AsyncIterator[Front]:
    settings.GATEWAY = {"calls_of_a_user": 2, "calls": 3}
    async with standing(monkeypatch, settings) as opened:
        yield opened


@requirement("G13")
async def test_calls_are_limited_by_person_and_by_process(front: Front) -> None:
    answered = asyncio.Event()

    async def waits(request: web.Request) -> web.StreamResponse:
        await answered.wait()
        return web.json_response({})

    front.upstream.behave = waits
    waiting = [await _sent(front, *call) for call in ((modern_call(), MODERN), (legacy_call(), LEGACY))]
    for body, headers in ((modern_call(7), MODERN), (legacy_call(7), LEGACY)):
        refused = await front.ask(body, headers)
        assert (refused.status, refused.header("retry-after"), refused.json()["id"]) == (429, "30", 7)
        assert refused.json()["error"]["code"] == -32000
    waiting.append(await _sent(front, modern_call(), BOB))
    full = await front.ask(modern_call(8), CAROL)
    assert (full.status, full.header("retry-after"), full.json()["id"]) == (503, "30", 8)
    assert len(front.upstream.seen) == 3
    answered.set()
    assert [(await client.end()).status for client in waiting] == [200] * 3
    assert [(await front.ask(modern_call(), headers)).status for headers in (MODERN, CAROL)] == [200] * 2


async def test_a_call_that_is_given_up_leaves_its_place(front: Front) -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    front.upstream.behave = never
    for _ in range(3):
        client = await _sent(front, modern_call(), MODERN)
        client.leave()
        await client.end()
    assert len(front.upstream.seen) == 3


async def _sent(front: Front, body: bytes, headers: dict[str, str]) -> Client:
    """Send a call, and wait until the server has it."""
    before, client = len(front.upstream.seen), front.open(body, headers)
    async with asyncio.timeout(5):
        while len(front.upstream.seen) == before:
            await asyncio.sleep(0.005)
    return client
