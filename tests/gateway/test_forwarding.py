"""What goes to the server, what comes back, and what never does."""

from __future__ import annotations

import json

import pytest

from tests.requirements import requirement

from .front import LEGACY, MODERN, Front, legacy_call, modern_call
from .upstream import RESULT, answers, in_turn, streams

SITE_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "same-origin", "cache-control": "no-store"}


@requirement("G-01", "G-04", "G-11", "G01", "T-06")
async def test_a_call_reaches_the_server_with_the_persons_own_token_and_allowed_headers_only(front: Front) -> None:
    hostile = {
        "Cookie": "a=b", "Proxy-Authorization": "Basic eA==", "X-Forwarded-For": "1.2.3.4", "Forwarded": "for=1.2.3.4",
        "X-Real-IP": "1.2.3.4", "X-Api-Key": "k", "DPoP": "x", "Connection": "mcp-method, authorization",
        "Mcp-Session-Id": "of-another-era", "User-Agent": "me", "Accept-Encoding": "gzip",
    }  # fmt: skip
    answer = await front.ask(modern_call(), {**MODERN, **hostile, "Mcp-Param-City": "Oslo"}, query=b"access_token=x")
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
    answer = await front.ask(legacy_call(), LEGACY)
    found = dict(answer.headers)
    assert len(found) == len(answer.headers)
    assert (found.pop("mcp-session-id"), found.pop("mcp-protocol-version")) == ("s-1", "2025-11-25")
    assert found.items() >= SITE_HEADERS.items()
    assert not {"evil", "public", "/secret", "x"} & set(found.values())
    assert not found.keys() & ({name.lower() for name in hostile} - {"content-security-policy", "cache-control"})
    modern = await front.ask(modern_call(), MODERN)
    assert modern.header("mcp-session-id") is None


@requirement("G-18")
async def test_events_are_relayed_as_they_come_and_to_the_byte(front: Front) -> None:
    import asyncio

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
    assert (front.renewed, front.given_up, len(front.upstream.seen)) == (2, 1, 4)
    assert answer.status not in (401, 403)
    assert answer.header("www-authenticate") is None
    assert b"evil" not in answer.body
