"""The whole way of a request past the policy of its server: what reaches the server, what comes back, what is noted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from pytest_django import Settings

from gateway.messages.parameter_headers import ParameterHeader
from gateway.person_needed.reasons import NeedsPersonError, Reason
from gateway.policies.policy import Limits, Policy, ToolRule
from gateway.targets.find import NotServedError
from tests.requirements import requirement

from .front import LEGACY, MODERN, Front, legacy_call, modern_call, standing
from .upstream import RESULT, answers, streams

ONLY_READ = Policy(rules=(ToolRule.of("allowed", ("read_*",)),))
LIST = {**MODERN, "Mcp-Method": "tools/list", "Mcp-Name": None}
LISTEN = {**LIST, "Mcp-Method": "subscriptions/listen"}
TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "read_file")]


def _list(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": TOOLS, "nextCursor": "2", **members}}).encode()


async def _noted(front: Front, count: int = 1) -> list[tuple[str, str, str, int, int]]:
    async with asyncio.timeout(5):
        while len(front.noted) < count:
            await asyncio.sleep(0.01)
    return [(call.method, call.name, call.outcome.value, call.status, call.code) for call in front.noted]


async def test_a_forbidden_tool_does_not_reach_the_server(front: Front) -> None:
    front.policy = ONLY_READ
    answer = await front.ask(modern_call(7), MODERN)
    assert (answer.status, answer.header("content-type")) == (200, "application/json")
    assert answer.json() == {"jsonrpc": "2.0", "id": 7, "error": {"code": -32602, "message": "Unknown tool: echo"}}
    assert front.upstream.seen == []
    assert await _noted(front) == [("tools/call", "echo", "forbidden", 200, -32602)]


async def test_nor_is_told_which_headers_it_describes(front: Front) -> None:
    front.policy = ONLY_READ
    front.described = {"echo": [(ParameterHeader(b"mcp-param-city", ("city",)),)]}
    answer = await front.ask(modern_call(7, arguments={"city": "Oslo"}), MODERN)
    assert answer.json()["error"] == {"code": -32602, "message": "Unknown tool: echo"}


async def test_an_allowed_tool_does(front: Front) -> None:
    front.policy = ONLY_READ
    answer = await front.ask(modern_call(name="read_file"), {**MODERN, "Mcp-Name": "read_file"})
    assert (answer.status, answer.body, len(front.upstream.seen)) == (200, RESULT, 1)
    assert await _noted(front) == [("tools/call", "read_file", "ok", 200, 0)]
    (call,) = front.noted
    assert call.request_bytes == len(front.upstream.seen[0].body)
    assert (call.response_bytes, call.client, call.server) == (len(RESULT), "program", "files")
    assert call.connection == str(front.connection_id)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_list_has_only_allowed_tools(front: Front, is_stream: bool, era: str) -> None:
    front.policy = ONLY_READ
    front.upstream.behave = streams(b"id: 1\ndata: " + _list() + b"\n\n") if is_stream else answers(_list())
    if era == "modern":
        answer = await front.ask(modern_call(method="tools/list"), LIST)
    else:
        answer = await front.ask(legacy_call(method="tools/list"), LEGACY)
    document = answer.body.decode().strip().rpartition("data: ")[2] if is_stream else answer.body.decode()
    result = json.loads(document)["result"]
    assert ([tool["name"] for tool in result["tools"]], result["nextCursor"]) == (["read_file"], "2")
    assert answer.is_whole
    if not is_stream:
        assert answer.header("content-length") == str(len(answer.body))


async def test_a_stream_that_repeats_answers_shows_no_more(front: Front) -> None:
    front.policy = ONLY_READ
    front.upstream.behave = streams(b"id: 1\ndata: " + _list() + b"\n\n")
    session = await front.ask(legacy_call(method="initialize"), LEGACY)
    answer = await front.ask(b"", {**LEGACY, "Accept": "text/event-stream", "Last-Event-ID": "0"}, method="GET")
    assert session.status == 200
    assert b"read_file" in answer.body
    assert b"echo" not in answer.body


async def test_without_a_policy_a_list_passes_to_the_byte(front: Front) -> None:
    front.upstream.behave = answers(_list())
    assert (await front.ask(modern_call(method="tools/list"), LIST)).body == _list()


@requirement("G-09")
@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("body", [b"Not Found", b'{"error": ', b"[" * 100 + b"]" * 100, b'{"b":1, "a":2}'])
async def test_a_refusal_of_a_list_passes_to_the_byte_even_if_nobody_can_read_it(
    front: Front, status: int, body: bytes
) -> None:
    front.upstream.behave = answers(body, status=status)
    for front.policy in (Policy(), ONLY_READ):
        for sent, headers in (
            (modern_call(method="tools/list"), LIST),
            (legacy_call(method="tools/list"), LEGACY),
        ):
            answer = await front.ask(sent, headers)
            assert (answer.status, answer.body) == (status, body)


async def test_over_the_limit_is_429_with_a_time_to_come_back(front: Front) -> None:
    front.policy = Policy(limits=Limits(calls_per_minute=2))
    got = [await front.ask(modern_call(number), MODERN) for number in range(3)]
    assert [answer.status for answer in got] == [200, 200, 429]
    assert 1 <= int(got[2].header("retry-after") or 0) <= 30
    assert (got[2].json()["id"], got[2].json()["error"]["code"]) == (2, -32000)
    assert len(front.upstream.seen) == 2
    assert (await _noted(front, 3))[2] == ("tools/call", "echo", "over_limit", 429, 0)
    other = await front.ask(modern_call(), {**MODERN, "Authorization": "Bearer bob"})
    assert other.status == 200


async def test_a_long_request_is_not_forwarded(front: Front) -> None:
    front.policy = Policy(limits=Limits(request_bytes=1024))
    answer = await front.ask(modern_call(arguments={"text": "x" * 1024}), MODERN)
    assert (answer.status, answer.json()["id"], front.upstream.seen) == (413, 1, [])


async def test_a_long_answer_is_not_relayed(front: Front) -> None:
    front.policy = Policy(limits=Limits(response_bytes=1024))
    front.upstream.behave = answers(b'{"id":1,"result":{"text":"' + b"x" * 1024 + b'"}}')
    answer = await front.ask(modern_call(), MODERN)
    assert (answer.status, b"xxx" in answer.body) == (502, False)
    assert (await _noted(front))[0][2] == "upstream_error"


async def test_nor_is_one_noted_as_answered_that_was_cut(front: Front) -> None:
    async def behave(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for _ in range(3):
            await response.write(b" " * 1000)
            await front.looked()
        return response

    front.policy, front.upstream.behave = Policy(limits=Limits(response_bytes=1500)), behave
    answer = await front.ask(legacy_call(), LEGACY)
    assert (answer.status, answer.is_whole) == (200, False)
    assert (await _noted(front))[0][2] == "upstream_error"


async def test_a_person_has_as_many_streams_at_a_server_as_its_policy_says(front: Front) -> None:
    front.policy = Policy(limits=Limits(open_streams=1))
    go_on = asyncio.Event()
    front.upstream.behave = streams(b": hello\n\n", go_on.wait)
    wanted = {**LEGACY, "Accept": "text/event-stream"}
    first = front.open(b"", wanted, method="GET")
    await first.start()
    second = await front.ask(b"", wanted, method="GET")
    other = front.open(b"", {**wanted, "Authorization": "Bearer bob"}, method="GET")
    await other.start()
    assert (second.status, other.received.status) == (429, 200)
    go_on.set()
    await first.end()
    await other.end()
    third = front.open(b"", wanted, method="GET")
    assert (await third.start()).status == 200
    await third.end()


@pytest.mark.parametrize(
    ("body", "status", "wanted"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}', 200, ("tool_error", 200, 0)),
        (b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"m"}}', 200, ("rpc_error", 200, -32602)),
        (b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"m"}}', 404, ("rpc_error", 404, -32601)),
    ],
)
async def test_how_it_ended_is_noted(front: Front, body: bytes, status: int, wanted: tuple[str, int, int]) -> None:
    front.upstream.behave = answers(body, status=status)
    await front.ask(modern_call(), MODERN)
    assert (await _noted(front))[0][2:] == wanted


async def test_a_missing_connection_is_noted_as_such(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    front.missing = NeedsPersonError(Reason.DEGRADED, front.server)
    await front.ask(modern_call(), MODERN)
    assert (await _noted(front))[0][2] == "needs_person"


async def test_a_client_that_leaves_is_noted_as_such(front: Front) -> None:
    never = asyncio.Event()
    front.upstream.behave = streams(b": hello\n\n", never.wait)
    client = front.open(modern_call(), MODERN)
    await client.start()
    client.leave()
    await client.end()
    assert (await _noted(front))[0][2] == "cancelled"


async def test_who_may_not_use_the_server_is_noted_as_refused(front: Front) -> None:
    front.missing = NotServedError()
    assert (await front.ask(modern_call(), MODERN)).status == 404
    assert await _noted(front) == [("tools/call", "echo", "forbidden", 404, 0)]


async def test_a_failure_of_our_own_is_noted_as_such(front: Front) -> None:
    front.missing = RuntimeError("no database")
    assert (await front.ask(modern_call(), MODERN)).status == 503
    assert await _noted(front) == [("tools/call", "echo", "failed_here", 503, 0)]


@pytest.mark.parametrize(
    ("sent", "more", "status"),
    [
        (modern_call(), {**MODERN, "Mcp-Param-City": "K\u00f6ln"}, 400),
        (legacy_call(), {**LEGACY, "Mcp-Session-Id": "a"}, 404),
    ],
)
async def test_what_the_client_did_wrong_is_not_noted_as_the_servers(
    front: Front, sent: bytes, more: dict[str, str], status: int
) -> None:
    assert (await front.ask(sent, more)).status == status
    assert (await _noted(front))[0][2:4] == ("rpc_error", status)


@pytest.mark.parametrize(
    ("method", "limits", "outcome"),
    [
        ("subscriptions/listen", {"rights_seconds": 0.05}, "forbidden"),
        ("subscriptions/listen", {"stream_seconds": 0.05}, "ended"), ("subscriptions/listen", {}, "ended"),
        ("tools/call", {"stream_seconds": 0.05}, "upstream_error"),
        ("tools/call", {"idle_seconds": 0.05}, "upstream_error"),
    ],
)  # fmt: skip
async def test_why_a_stream_was_ended_is_noted(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, method: str, limits: dict[str, float], outcome: str
) -> None:
    settings.GATEWAY = limits
    async with standing(monkeypatch, settings) as front:
        front.upstream.behave = streams(b": hello\n\n", asyncio.Event().wait)
        client = front.open(modern_call(method=method), MODERN if method == "tools/call" else LISTEN)
        await client.start()
        await client.piece()
        if "rights_seconds" in limits:
            front.rights.clear()
        elif not limits:
            front.gateway.end_streams()
        assert (await client.end()).is_whole
        ((noted, _, *end),) = await _noted(front)
        assert (noted, end) == (method, [outcome, 200, 0])


async def test_each_call_of_a_batch_is_noted_and_its_bytes_once(front: Front) -> None:
    calls = [json.loads(legacy_call(number)) for number in range(3)]
    body = json.dumps([*calls, {"jsonrpc": "2.0", "method": "notifications/x"}]).encode()
    front.upstream.behave = answers(b"[" + RESULT + b"]")
    answer = await front.ask(body, {"Mcp-Protocol-Version": "2025-03-26"})
    assert answer.status == 200
    assert await _noted(front, 3) == [("tools/call", "echo", "ok", 200, 0)] * 3
    assert [call.response_bytes for call in front.noted] == [len(RESULT) + 2, 0, 0]


async def test_notifications_are_not_noted(front: Front) -> None:
    front.upstream.behave = answers(b"", status=202, kind="")
    body = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{}}'
    assert (await front.ask(body, LEGACY)).status == 202
    await front.ask(modern_call(), MODERN)
    assert [method for method, *_ in await _noted(front)] == ["tools/call"]


async def test_where_records_are_far_behind_no_call_begins(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.calls.record.CallRecorder.has_room", False)
    answer = await front.ask(modern_call(), MODERN)
    assert (answer.status, answer.header("retry-after"), front.upstream.seen) == (503, "1", [])


@requirement("G-20")
async def test_no_answer_is_kept_for_anybody_else_or_for_later(front: Front) -> None:
    """Whatever the server says about sharing it: each request goes to the server."""
    for number, token in enumerate(("alice", "alice", "bob"), start=1):
        front.upstream.behave = answers(_list(cacheScope="public", ttlMs=600_000, of=token))
        answer = await front.ask(modern_call(method="tools/list"), {**LIST, "Authorization": f"Bearer {token}"})
        assert (answer.json()["result"]["of"], len(front.upstream.seen)) == (token, number)
        assert answer.header("cache-control") == "no-store"
    front.policy = ONLY_READ
    answer = await front.ask(modern_call(method="tools/list"), LIST)
    assert answer.json()["result"]["cacheScope"] == "private"


@requirement("G-06", "G-07", "G-08", "G10")
async def test_a_header_that_a_tool_describes_says_what_the_argument_says(front: Front) -> None:
    front.described = {"echo": [(ParameterHeader(b"mcp-param-city", ("city",)),)]}
    call = modern_call(4, arguments={"city": "Oslo"})
    for headers in ({**MODERN, "Mcp-Param-City": "Bergen"}, MODERN):
        answer = await front.ask(call, headers)
        assert (answer.status, answer.json()["id"], answer.json()["error"]["code"]) == (400, 4, -32020)
    assert front.upstream.seen == []
    town = {"Mcp-Param-Town": "Bergen"}
    assert (await front.ask(call, {**MODERN, **town, "Mcp-Param-City": "=?base64?T3Nsbw==?="})).status == 200
    assert (await front.ask(modern_call(), MODERN)).status == 200
    legacy = legacy_call(arguments={"city": "Oslo"})
    assert (await front.ask(legacy, {**LEGACY, "Mcp-Param-City": "Bergen"})).status == 200
    seen = [(seen.header("Mcp-Param-City"), seen.header("Mcp-Param-Town")) for seen in front.upstream.seen]
    assert seen == [("=?base64?T3Nsbw==?=", "Bergen"), (None, None), ("Bergen", None)]
