"""How much of an event stream is relayed: of an answer to a call as much as of a document, of others each event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from pytest_django import Settings

from gateway.forwarding.event_size import EventSize
from gateway.policies.policy import Limits, Policy
from tests.requirements import requirement

from .front import LEGACY, MODERN, Client, Front, Received, legacy_call, modern_call, standing
from .upstream import streams

MOST = 10_000
NOTE = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"data":"%b"}}\n\n' % (b"x" * 900)
CALLS = [(modern_call(7), MODERN), (legacy_call(7), LEGACY)]
ERAS = ["modern", "legacy"]


@pytest_asyncio.fixture
async def front(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> AsyncIterator[Front]:
    settings.GATEWAY = {"answer_bytes": MOST}
    async with standing(monkeypatch, settings) as opened:
        yield opened


def error_at_end(answer: Received) -> dict[str, object]:
    last = answer.body.removesuffix(b"\n\n").split(b"\n\n")[-1]
    error: dict[str, object] = json.loads(last.removeprefix(b"event: message\ndata: "))
    return error


TOO_LONG = {"jsonrpc": "2.0", "id": 7, "error": {"code": -32000, "message": "The server's answer is too long."}}


async def is_let_go(front: Front) -> None:
    async with asyncio.timeout(5):
        await front.upstream.seen[-1].left.wait()


@requirement("G16", "G-09", "G-10")
@pytest.mark.parametrize("call", CALLS, ids=ERAS)
async def test_an_answer_as_events_is_no_longer_than_one_as_a_document(
    front: Front, call: tuple[bytes, dict[str, str]]
) -> None:
    front.upstream.behave = streams(NOTE, front.looked, *[NOTE, lambda: asyncio.sleep(0.001)] * 20, NOTE * 1000)
    answer = await front.ask(*call)
    assert (answer.status, answer.is_whole) == (200, True)
    assert error_at_end(answer) == TOO_LONG
    assert len(NOTE) <= answer.body.count(b"xx") * 2 <= MOST
    await is_let_go(front)


@requirement("G16")
@pytest.mark.parametrize("call", CALLS, ids=ERAS)
async def test_an_answer_as_events_is_no_longer_than_its_policy_says(
    front: Front, call: tuple[bytes, dict[str, str]]
) -> None:
    front.policy = Policy(limits=Limits(response_bytes=2 * len(NOTE)))
    front.upstream.behave = streams(NOTE, front.looked, NOTE)
    assert (await front.ask(*call)).body == NOTE * 2
    front.upstream.behave = streams(NOTE, front.looked, NOTE, front.looked, b":\n", asyncio.Event().wait)
    answer = await front.ask(*call)
    assert (answer.body[: len(NOTE) * 2], error_at_end(answer)) == (NOTE * 2, TOO_LONG)
    await is_let_go(front)


def open_stream(front: Front, kind: str) -> Client:
    if kind == "get":
        return front.open(b"", LEGACY, method="GET")
    headers = {**MODERN, "Mcp-Method": "subscriptions/listen", "Mcp-Name": None}
    return front.open(modern_call(7, method="subscriptions/listen"), headers)


@requirement("G-18", "G13")
@pytest.mark.parametrize("kind", ["listen", "get"])
async def test_a_stream_that_stays_open_may_be_longer_in_sum(front: Front, kind: str) -> None:
    front.upstream.behave = streams(*[NOTE * 3, NOTE[:500], NOTE[500:]] * 20)
    assert (await open_stream(front, kind).end()).body == NOTE * 80


@requirement("G13", "G16")
@pytest.mark.parametrize("kind", ["listen", "get"])
async def test_but_none_of_its_events_however_many_lines_it_has(front: Front, kind: str) -> None:
    front.upstream.behave = streams(NOTE, front.looked, *[b"data: x\n" * 100, front.looked] * 20)
    answer = await open_stream(front, kind).end()
    assert (answer.status, answer.is_whole, answer.body[: len(NOTE)]) == (200, True, NOTE)
    assert answer.body.count(b"data: x\n") * 8 <= MOST
    assert kind == "get" or error_at_end(answer) == TOO_LONG
    await is_let_go(front)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_is_measured_wherever_it_is_cut(end: bytes) -> None:
    event = b"id: 1" + end + b"data: 12345678"
    stream = (event + end + end) * 3
    for most, is_exceeded in ((len(event + end + end), False), (len(event) - 1, True)):
        for length in range(1, len(stream)):
            size = EventSize(most=most)
            pieces = [stream[at : at + length] for at in range(0, len(stream), length)]
            assert any(size.is_exceeded(piece) for piece in pieces) == is_exceeded, (most, length)
