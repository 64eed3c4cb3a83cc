"""What goes to the server, what comes back, and what never does."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from pytest_django import Settings

from gateway.policies.policy import Limits, Policy
from tests.requirements import requirement

from .front import LEGACY, MODERN, Front, legacy_call, modern_call
from .upstream import RESULT, Behaviour, answers, in_turn, streams


@pytest.fixture
def refused_port() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


SITE_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "same-origin", "cache-control": "no-store"}


@requirement("G-01", "G-04", "G-11", "G01", "T-06")
async def test_a_call_reaches_the_server_with_the_persons_own_token_and_allowed_headers_only(front: Front) -> None:
    hostile = {
        "Cookie": "a=b", "Proxy-Authorization": "Basic eA==", "X-Forwarded-For": "1.2.3.4", "Forwarded": "for=1.2.3.4",
        "X-Real-IP": "1.2.3.4", "X-Api-Key": "k", "DPoP": "x", "Connection": "mcp-method, authorization",
        "Mcp-Session-Id": "of-another-era", "User-Agent": "me", "Accept-Encoding": "gzip",
    }  # fmt: skip
    answer = await front.ask(modern_call(), {**MODERN, **hostile, "Mcp-Param-City": "Oslo"}, query=b"secret=x")
    assert (answer.status, answer.body) == (200, RESULT)
    (seen,) = front.upstream.seen
    assert (seen.method, seen.path) == ("POST", "/mcp")
    assert json.loads(seen.body) == json.loads(modern_call())
    assert {name.lower(): value for name, value in seen.headers} == {
        "host": front.upstream.url.split("/")[2], "user-agent": "mcp-oauth-site", "accept-encoding": "identity",
        "authorization": "Bearer upstream-0", "accept": "application/json, text/event-stream",
        "content-type": "application/json", "content-length": str(len(seen.body)), "mcp-param-city": "Oslo",
        "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "echo",
    }  # fmt: skip


@requirement("G05", "G-11")
async def test_only_allowed_headers_come_back(front: Front) -> None:
    hostile = {
        "Set-Cookie": "a=b", "X-Accel-Redirect": "/secret", "X-Sendfile": "/etc/passwd", "Alt-Svc": "h3=':443'",
        "Clear-Site-Data": '"*"', "Content-Security-Policy": "default-src *", "Access-Control-Allow-Origin": "*",
        "Link": "</evil>; rel=preload", "Refresh": "0; url=https://evil.example", "Server": "evil", "Via": "evil",
        "WWW-Authenticate": 'Bearer resource_metadata="https://evil.example"', "Location": "https://evil.example",
        "Cache-Control": "public", "Mcp-Session-Id": "s-1", "Mcp-Protocol-Version": "2025-11-25", "X-Custom": "x",
    }  # fmt: skip
    front.upstream.behave = answers(headers=hostile)
    answer = await front.ask(legacy_call(method="initialize"), LEGACY)
    found = dict(answer.headers)
    assert len(found) == len(answer.headers)
    assert (found.pop("mcp-session-id"), found.pop("mcp-protocol-version")) == ("ours-0", "2025-11-25")
    assert found.items() >= SITE_HEADERS.items()
    assert not {"evil", "public", "/secret", "x"} & set(found.values())
    assert not found.keys() & ({name.lower() for name in hostile} - {"content-security-policy", "cache-control"})
    modern = await front.ask(modern_call(), MODERN)
    assert modern.header("mcp-session-id") is None


@requirement("G-18")
async def test_events_are_relayed_as_they_come_and_to_the_byte(front: Front) -> None:
    go_on = asyncio.Event()
    first, second = b'retry: 10\nid: 7\n: note\ndata: {"a":\r\ndata: 1}\n\n', b"event: x\ndata: \xc3\xa4\n\n"
    front.upstream.behave = streams(first, go_on.wait, second)
    client = front.open(modern_call(), MODERN)
    head = await client.start()
    assert (head.status, head.header("content-type")) == (200, "text/event-stream")
    assert (head.header("x-accel-buffering"), head.header("content-length")) == ("no", None)
    assert await client.piece() == first
    go_on.set()
    assert (await client.end()).body == first + second
    assert client.received.is_whole


@requirement("G-09")
@pytest.mark.parametrize("status", [400, 404, 405, 406, 409, 413, 422, 429, 500, 503])
async def test_an_error_of_the_server_in_json_is_relayed_to_the_byte(front: Front, status: int) -> None:
    body = b'{ "jsonrpc" : "2.0", "error":{"code":-32022,"message":"\\u00e4"}, "id":null }\n'
    front.upstream.behave = answers(body, status=status, kind="application/json; charset=utf-8")
    answer = await front.ask(modern_call(), MODERN)
    assert (answer.status, answer.body) == (status, body)
    assert answer.header("content-type") == "application/json"


@requirement("G-05", "G03")
async def test_a_refused_token_is_renewed_once_and_the_call_tried_once_more(front: Front) -> None:
    challenge = {"WWW-Authenticate": 'Bearer resource_metadata="https://evil.example/x"'}
    refusing = answers(b"evil", status=401, kind="text/html", headers=challenge)
    front.upstream.behave = in_turn(refusing, answers())
    answer = await front.ask(modern_call(), MODERN)
    assert (answer.status, answer.body, front.renewed) == (200, RESULT, 1)
    assert [seen.header("Authorization") for seen in front.upstream.seen] == ["Bearer upstream-0", "Bearer upstream-1"]
    front.upstream.behave = refusing
    answer = await front.ask(modern_call(), MODERN)
    assert (front.renewed, front.given_up, len(front.upstream.seen)) == (2, 0, 4)
    assert answer.status not in (401, 403)
    assert answer.header("www-authenticate") is None
    assert b"evil" not in answer.body


LISTING = modern_call(method="tools/list"), {**MODERN, "Mcp-Method": "tools/list", "Mcp-Name": None}
CALLING = modern_call(), MODERN
CALLING_ANOTHER = modern_call(name="another"), {**MODERN, "Mcp-Name": "another"}
REFUSALS: dict[str, tuple[list[Any], int]] = {
    "one tool, again and again": ([CALLING, CALLING, CALLING], 0),
    "two tools, and a list that is taken in between": ([CALLING, None, CALLING_ANOTHER], 0),
    "two tools": ([CALLING, CALLING_ANOTHER], 1),
    "a tool and a list": ([CALLING, LISTING], 1),
    "a list": ([LISTING], 1),
}


@requirement("G-05", "G03")
@pytest.mark.parametrize(("asked", "ended"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_connection_ends_where_more_than_one_tool_refuses_fresh_access(
    front: Front, asked: list[Any], ended: int
) -> None:
    for request in asked:
        front.upstream.behave = answers(status=401) if request else answers()
        await front.ask(*(request or LISTING))
    assert front.given_up == ended
    assert front.renewed == len({id(request) for request in asked if request})  # not again for what is known


@requirement("G-05", "S-06")
async def test_a_403_for_scopes_asks_a_person_and_any_other_is_a_failure_of_the_server(front: Front) -> None:
    front.upstream.behave = answers(b"evil", status=403, kind="text/html")
    answer = await front.ask(modern_call(), MODERN)
    assert (answer.status, answer.json()["id"]) == (502, 1)
    assert b"evil" not in answer.body
    challenge = {"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="a b", resource_metadata="https://evil"'}
    front.upstream.behave = answers(b"evil", status=403, kind="text/html", headers=challenge)
    answer = await front.ask(modern_call(), MODERN)
    assert answer.status not in (401, 403)
    assert b"evil" not in answer.body
    assert answer.header("www-authenticate") is None
    assert front.renewed == 0


REFUSED = {
    "redirect": answers(b"", status=302, kind="", headers={"Location": "https://evil.example/"}),
    "permanent redirect": answers(b"{}", status=308, headers={"Location": "https://evil.example/"}),
    "not modified": answers(b"", status=304, kind=""),
    "page": answers(b"<script>evil</script>", kind="text/html"),
    "page called a result": answers(b"<p>evil", kind="text/html; application/json"),
    "plain text": answers(b"evil", kind="text/plain"),
    "no type": answers(b"evil", kind=""),
    "failure as a page": answers(b"<p>evil", status=500, kind="text/html"),
    "events that are no answer": answers(b"data: evil\n\n", status=201, kind="text/event-stream"),
    "packed": answers(b"evil", headers={"Content-Encoding": "gzip"}),
    "packed unknown": answers(b"evil", headers={"Content-Encoding": "identity, br"}),
    "too long by its head": answers(b"e" * (10 * 1024 * 1024 + 1)),
    "a header that is too long": answers(headers={"X-Long": "e" * 40_000}),
}


@requirement("G-09", "G-10", "G05", "G16")
@pytest.mark.parametrize("behaviour", REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_no_answer_of_mcp_becomes_a_failure_in_json(front: Front, behaviour: Behaviour) -> None:
    front.upstream.behave = behaviour
    answer = await front.ask(modern_call(7), MODERN)
    assert (answer.status, answer.header("content-type")) == (502, "application/json")
    assert answer.json()["id"] == 7
    assert answer.json()["error"]["code"] == -32000
    assert b"evil" not in answer.body
    assert answer.header("location") is None
    assert len(front.upstream.seen) == 1


@requirement("G-09")
@pytest.mark.parametrize("status", [400, 404, 405, 415])
async def test_a_page_with_a_client_error_loses_the_page_but_not_the_status(front: Front, status: int) -> None:
    front.upstream.behave = answers(b"<p>evil", status=status, kind="text/html")
    answer = await front.ask(modern_call(7), MODERN)
    assert (answer.status, answer.json()["id"]) == (status, 7)
    assert b"evil" not in answer.body


@requirement("G-01")
@pytest.mark.parametrize(
    ("method", "status"), [("POST", 202), ("POST", 204), ("DELETE", 200), ("DELETE", 204), ("GET", 405), ("POST", 404)]
)
async def test_an_answer_without_a_body_is_relayed_as_its_status(front: Front, method: str, status: int) -> None:
    front.upstream.behave = answers(b"", status=status, kind="")
    answer = await front.ask(legacy_call() if method == "POST" else b"", LEGACY, method=method)
    assert (answer.status, answer.body, answer.header("content-type")) == (status, b"", None)
    assert [seen.method for seen in front.upstream.seen] == [method]


@requirement("G-09")
async def test_a_server_that_is_away_is_502_and_a_slow_one_504(front: Front, refused_port: int) -> None:
    front.upstream.behave = streams(asyncio.Event().wait)
    front.change_server(timeout_seconds=0.3)

    async def never(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    front.upstream.behave = never
    answer = await front.ask(modern_call(), MODERN)
    assert (answer.status, answer.json()["error"]["code"]) == (504, -32000)
    await asyncio.wait_for(front.upstream.seen[0].left.wait(), 5)
    front.change_server(url=f"http://127.0.0.1:{refused_port}/mcp", timeout_seconds=60)
    answer = await front.ask(modern_call(), MODERN)
    assert (answer.status, answer.json()["id"]) == (502, 1)


@requirement("U-01")
async def test_a_server_inside_that_nobody_allowed_is_not_reached(front: Front, settings: Settings) -> None:
    settings.EGRESS_ALLOW = []
    for url in (front.upstream.url, front.upstream.url.replace("127.0.0.1", "localhost")):
        front.change_server(url=url)
        answer = await front.ask(modern_call(), MODERN)
        assert answer.status == 502
        assert b"127.0.0.1" not in answer.body
    assert front.upstream.seen == []


@requirement("G16")
async def test_an_answer_that_says_that_it_is_too_long_is_not_begun(front: Front) -> None:
    front.upstream.behave = answers(b"e" * (10 * 1024 * 1024 + 1))
    answer = await front.ask(legacy_call(7), LEGACY)
    assert (answer.status, answer.json()["id"], answer.is_whole) == (502, 7, True)


@requirement("G16")
async def test_a_long_answer_without_a_length_is_cut(front: Front) -> None:
    async def behave(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for _ in range(12):
            await response.write(b" " * 1024 * 1024)
        return response

    front.upstream.behave = behave
    answer = await front.ask(legacy_call(), LEGACY)
    assert (answer.status, answer.is_whole) == (200, False)
    # An answer that may hold a state to be wrapped is not begun before it is known.
    assert (await front.ask(modern_call(), MODERN)).status == 502
    assert 10 * 1024 * 1024 < len(answer.body) < 11 * 1024 * 1024


@pytest.mark.parametrize("has_length", [True, False])
async def test_the_longest_answer_of_a_policy_holds_for_a_short_one_too(front: Front, has_length: bool) -> None:
    async def behave(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = 2000 if has_length else None
        await response.prepare(request)
        await response.write(b" " * 2000)
        return response

    front.policy, front.upstream.behave = Policy(limits=Limits(response_bytes=1024)), behave
    for call, version in ((legacy_call(), LEGACY), (modern_call(), MODERN)):
        answer = await front.ask(call, version)
        assert (answer.status, answer.is_whole) == (502, True)


async def test_a_long_answer_passes_whole(front: Front) -> None:
    front.upstream.behave = answers(b'"' + b"x" * (9 * 1024 * 1024) + b'"')
    answer = await front.ask(modern_call(), MODERN)
    assert (len(answer.body), answer.is_whole) == (9 * 1024 * 1024 + 2, True)
    assert answer.header("content-length") == str(len(answer.body))


@requirement("G-09")
async def test_an_answer_that_breaks_off_is_not_made_to_look_whole(front: Front) -> None:
    async def behave(request: web.Request) -> web.StreamResponse:
        kind = "text/event-stream" if "events" in request.headers["Accept"] else "application/json"
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        await response.write(b'data: {"jsonrpc"')
        await asyncio.sleep(0.05)
        request.transport.abort()
        return response

    front.upstream.behave = behave
    for accept in ("application/json", "events"):
        answer = await front.ask(legacy_call(), {**LEGACY, "Accept": accept})
        assert (answer.status, answer.is_whole) == (200, False)


@requirement("G-11", "G-12", "G08")
async def test_a_session_goes_by_another_name_and_belongs_to_who_began_it(front: Front) -> None:
    begun = answers(headers={"Mcp-Session-Id": "its own"})
    front.upstream.behave = begun
    assert (await front.ask(legacy_call(method="initialize"), LEGACY)).header("mcp-session-id") is None
    front.upstream.behave = begun = answers(headers={"Mcp-Session-Id": "its-own"})
    ours = (await front.ask(legacy_call(method="initialize"), LEGACY)).header("mcp-session-id")
    assert ours == "ours-0"
    assert front.upstream.seen[-1].header("Mcp-Session-Id") is None
    within = {**LEGACY, "Mcp-Session-Id": ours}
    assert (await front.ask(legacy_call(), within)).header("mcp-session-id") == ours
    assert front.upstream.seen[-1].header("Mcp-Session-Id") == "its-own"
    asked = len(front.upstream.seen)
    for headers in ({**within, "Authorization": "Bearer bob"}, {**within, "Mcp-Session-Id": "its-own"}):
        answer = await front.ask(legacy_call(3), headers)
        assert (answer.status, answer.json()["id"], answer.header("mcp-session-id")) == (404, 3, None)
    assert len(front.upstream.seen) == asked
    assert (await front.ask(modern_call(), {**MODERN, "Mcp-Session-Id": ours})).header("mcp-session-id") is None
    assert front.upstream.seen[-1].header("Mcp-Session-Id") is None


@requirement("G-11")
@pytest.mark.parametrize(("method", "status"), [("DELETE", 200), ("DELETE", 204), ("POST", 404)])
async def test_a_session_that_is_over_is_forgotten(front: Front, method: str, status: int) -> None:
    front.upstream.behave = answers(headers={"Mcp-Session-Id": "its-own"})
    await front.ask(legacy_call(method="initialize"), LEGACY)
    front.upstream.behave = answers(b"", status=status, kind="")
    headers = {**LEGACY, "Mcp-Session-Id": "ours-0"}
    assert (await front.ask(legacy_call() if method == "POST" else b"", headers, method=method)).status == status
    assert front.sessions.kept == {}
