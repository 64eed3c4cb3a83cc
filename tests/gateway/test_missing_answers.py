"""A stream that the gateway ends: who waits for an answer in it is told that there will be none, and nobody else."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway import application
from gateway.endpoint.answers import BusyError
from tests.requirements import requirement

from .front import LEGACY, MODERN, Client, Front, legacy_call, limits, modern_call, never
from .upstream import RESULT, streams

NOTE = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7}}\n\n'
ANSWER = b"data: " + RESULT.replace(b'"id":1', b'"id":7') + b"\n\n"
SHORT = {"idle_seconds": 0.1}
LATE = "The server did not answer in time."


def open_stream(front: Front, kind: str) -> Client:
    if kind == "get":
        return front.open(b"", LEGACY, method="GET")
    if kind == "listen":
        headers = {**MODERN, "Mcp-Method": "subscriptions/listen", "Mcp-Name": None}
        return front.open(modern_call(7, method="subscriptions/listen"), headers)
    return front.open(modern_call(7), MODERN) if kind == "modern" else front.open(legacy_call(7), LEGACY)


def messages(stream: bytes) -> list[Any]:
    """Read a stream as clients do: only events of the usual type are messages. WHATWG HTML §9.2.6."""
    found, data, kind = [], list[bytes](), b"message"
    for line in stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        if line.startswith(b"data: "):
            data.append(line[6:])
        elif line.startswith(b"event: "):
            kind = line[7:]
        elif not line:
            if data and kind == b"message":
                found.append(json.loads(b"\n".join(data)))
            data, kind = [], b"message"
    return found


def failure(words: str, *, id: int = 7) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": words}}


async def ended(front: Front, kind: str, *, words: str) -> None:
    """Check that a stream which has begun ends with that, whatever ends it."""
    answer = await open_stream(front, kind).end()
    assert (answer.status, answer.is_whole) == (200, True)
    assert messages(answer.body) == [*messages(NOTE), failure(words)]
    async with asyncio.timeout(5):
        await front.upstream.seen[-1].left.wait()


CALLS = pytest.mark.parametrize("kind", ["modern", "legacy"])
STREAMS = pytest.mark.parametrize("kind", ["modern", "legacy", "listen"])


@limits(stream_seconds=0.2)
@requirement("G-10", "G13")
@STREAMS
async def test_when_its_time_is_over(front: Front, kind: str) -> None:
    front.upstream.behave = streams(NOTE, never)
    words = "This has been open for as long as it may be." if kind == "listen" else LATE
    await ended(front, kind, words=words)


@limits(answer_seconds=0.2)
@requirement("G-24")
@CALLS
async def test_when_the_token_has_expired_and_the_time_of_an_answer_is_over_too(front: Front, kind: str) -> None:
    front.caller_seconds = 0.0
    front.upstream.behave = streams(NOTE, never)
    await ended(front, kind, words=LATE)


@limits(**SHORT)
@requirement("G-10", "G13")
@CALLS
async def test_when_the_server_says_nothing(front: Front, kind: str) -> None:
    front.upstream.behave = streams(NOTE, never)
    await ended(front, kind, words=LATE)


@limits(event_line_bytes=1000)
@requirement("G-10", "G13")
@STREAMS
async def test_when_a_line_is_too_long(front: Front, kind: str) -> None:
    """What has begun of that event is no message."""
    front.upstream.behave = streams(NOTE, b"data: {", front.looked, b"x" * 800, front.looked, b"x" * 800, never)
    await ended(front, kind, words="The server's answer is too long.")


@limits(rights_seconds=0.05)
@requirement("G-10", "G14")
@STREAMS
async def test_when_a_right_has_ended(front: Front, kind: str) -> None:
    async def ends() -> None:
        await front.looked()
        front.rights.clear()

    front.upstream.behave = streams(NOTE, ends, never)
    await ended(front, kind, words="The right to this has ended.")


@limits(rights_seconds=0.05)
@requirement("G-10", "G14")
@STREAMS
async def test_when_nobody_can_say_whether_the_right_has_ended(front: Front, kind: str) -> None:
    async def away() -> None:
        await front.looked()
        front.missing = BusyError(503, "The database is away.", wait_seconds=1)

    front.upstream.behave = streams(NOTE, away, never)
    await ended(front, kind, words="The gateway cannot look this up at the moment.")
    async with asyncio.timeout(5):
        while not front.noted:
            await asyncio.sleep(0.01)
    assert front.noted[0].outcome == "ended"


@requirement("G-10")
@STREAMS
async def test_when_the_process_stops(front: Front, kind: str) -> None:
    async def stops() -> None:
        await front.looked()
        front.gateway.end_streams()

    front.upstream.behave = streams(NOTE, stops, never)
    await ended(front, kind, words="The gateway cannot do this at the moment.")


@limits(edited_bytes=1000)
@requirement("G-10", "G16")
async def test_when_an_event_cannot_be_read_here(front: Front) -> None:
    state = b'data: {"jsonrpc":"2.0","id":7,"result":{"requestState":"%b"}}\n\n' % (b"s" * 1000)
    front.upstream.behave = streams(NOTE, front.looked, state, never)
    await ended(front, "modern", words="The server's answer is too long for what has to be looked at in it.")


@limits(**SHORT)
@requirement("G-10")
@CALLS
@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n"])
async def test_the_beginning_of_an_event_is_no_message(front: Front, kind: str, end: bytes) -> None:
    front.upstream.behave = streams(NOTE, b'data: {"jsonrpc":"2.0","method":"notifications/cut"}' + end, never)
    await ended(front, kind, words=LATE)


@limits(**SHORT, heartbeat_seconds=0.03)
@CALLS
@pytest.mark.parametrize("padding", [0, 200_000])
async def test_who_has_an_answer_gets_no_other(front: Front, kind: str, padding: int) -> None:
    answer = ANSWER.replace(b"hello", b"x" * padding)
    front.upstream.behave = streams(NOTE, answer, never)
    received = await open_stream(front, kind).end()
    assert (received.is_whole, messages(received.body)) == (True, messages(NOTE + answer))


@limits(**SHORT)
@CALLS
async def test_other_messages_are_no_answer_however_many_and_whatever_id_they_have(front: Front, kind: str) -> None:
    asks = b'data: {"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{"result":{}}}\n\n'
    other = ANSWER.replace(b'"id":7', b'"id":"7"')
    front.upstream.behave = streams(*[NOTE * 300, front.looked] * 5, asks, other, b"data: [\n\n", never)
    received = await open_stream(front, kind).end()
    assert received.body.endswith(b"data: %b\n\n" % json.dumps(failure(LATE), separators=(",", ":")).encode())
    assert received.body.count(b'"error"') == 1


@limits(**SHORT)
@requirement("G-21")
async def test_of_a_batch_those_are_told_that_have_no_answer(front: Front) -> None:
    batch = b"[%b]" % b",".join(legacy_call(id) for id in (6, 7, 8))
    front.upstream.behave = streams(b"data: [%b]\n\n" % ANSWER[6:-2], never)
    received = await front.ask(batch, {"Mcp-Protocol-Version": "2025-03-26"})
    assert messages(received.body)[1:] == [failure(LATE, id=6), failure(LATE, id=8)]


@limits(**SHORT)
@requirement("G-21")
async def test_of_a_batch_whose_answers_may_have_come_nobody_is_told_twice(front: Front) -> None:
    batch = b"[%b]" % b",".join(legacy_call(id) for id in (6, 7))
    front.upstream.behave = streams(ANSWER, front.looked, NOTE * 2000, front.looked, NOTE, never)
    received = await front.ask(batch, {"Mcp-Protocol-Version": "2025-03-26"})
    assert received.is_whole
    assert b'"error"' not in received.body


@pytest.mark.parametrize(
    "front", [{"idle_seconds": 0.1}, {"stream_seconds": 0.2}, {}], ids=["idle", "time", "stop"], indirect=True
)
@requirement("G-17")
async def test_who_can_come_back_for_the_answer_gets_no_error_in_its_place(
    front: Front, request: pytest.FixtureRequest
) -> None:
    async def stops() -> None:
        await front.looked()
        if "stop" in request.node.callspec.id:
            front.gateway.end_streams()

    begun = b"id: 1\ndata:\n\n" + NOTE
    front.upstream.behave = streams(begun, stops, never)
    received = await open_stream(front, "legacy").end()
    assert (received.is_whole, received.body) == (True, begun)
    received = await open_stream(front, "modern").end()
    assert messages(received.body.removeprefix(begun))[0]["id"] == 7


@limits(**SHORT)
async def test_an_empty_id_lets_nobody_come_back(front: Front) -> None:
    front.upstream.behave = streams(b"id:\n" + NOTE, never)
    await ended(front, "legacy", words=LATE)


@limits(event_line_bytes=1000, rights_seconds=0.05)
@pytest.mark.parametrize("why", ["right", "length"])
async def test_unless_it_would_come_back_in_vain(front: Front, why: str) -> None:
    async def ends() -> None:
        await front.looked()
        if why == "right":
            front.rights.clear()

    front.upstream.behave = streams(b"id: 1\n" + NOTE, ends, *([b"x" * 1001] if why == "length" else []), never)
    words = "The right to this has ended." if why == "right" else "The server's answer is too long."
    await ended(front, "legacy", words=words)


@limits(stream_seconds=0.1)
async def test_who_waits_for_no_answer_is_told_nothing(front: Front) -> None:
    front.upstream.behave = streams(NOTE, never)
    received = await open_stream(front, "get").end()
    assert (received.is_whole, received.body) == (True, NOTE)


@limits(**SHORT, reading_seconds=0.1)
@requirement("G13")
async def test_who_reads_nothing_is_not_waited_for(front: Front) -> None:
    front.upstream.behave = streams(NOTE, never)
    client = open_stream(front, "modern")
    await client.start()
    await client.piece()
    client.stop_reading()
    assert not (await client.end()).is_whole


@requirement("G-17")
@pytest.mark.parametrize("kind", ["modern", "listen", "get"])
async def test_nor_is_a_client_that_has_left(front: Front, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    told = list[bytes]()
    monkeypatch.setattr(application.Exchange, "finish", lambda self, data=b"": told.append(data) or asyncio.sleep(0))
    front.upstream.behave = streams(NOTE, never)
    client = open_stream(front, kind)
    await client.start()
    await client.piece()
    client.leave()
    await client.end()
    assert told == []
