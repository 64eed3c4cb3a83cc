"""Servers of 2024-11-05 behind the gateway: their stream and address for messages, for clients that know neither."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from pytest_django import Settings
from requests.structures import CaseInsensitiveDict

from gateway.targets.credentials import Credentials
from gateway.targets.target import Target
from oauthflow.egress import proofs
from oauthflow.egress.bound_token import BoundToken
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.signing_key import SigningKey
from tests.fakes.internet import Call
from tests.fakes.proofs import read_proof
from tests.requirements import requirement

from .front import LEGACY, MODERN, Front, legacy_call, modern_call


class OldServer:
    """Answers on the stream what is posted to the address that the stream begins with."""

    def __init__(self, front: Front) -> None:
        self.front, self.posted, self.streams = front, [], 0
        self.endpoint, self.refusing, self.padding = "/messages?session=1", 0, 0
        self.answers: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        front.change_server(transport="sse", url=front.upstream.url.replace("/mcp", "/sse"))
        front.upstream.behave = self.behave

    async def behave(self, request: web.Request) -> web.StreamResponse:
        if self.refusing and request.headers["Authorization"] == "Bearer upstream-0":
            return web.Response(status=self.refusing, text="evil", headers={"WWW-Authenticate": "Bearer evil"})
        if request.path == "/sse" and request.method == "GET":
            return await self._stream(request)
        message = json.loads(self.front.upstream.seen[-1].body)
        self.posted.append((request.path_qs, message))
        if "id" in message:
            result = {"echo": message["method"]}
            if message["method"] == "tools/call":
                result["more"] = "x" * self.padding
                self.answers.put_nowait({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}})
            self.answers.put_nowait({"jsonrpc": "2.0", "id": message["id"], "result": result})
        return web.Response(status=202, text="Accepted")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self.streams, self.answers = self.streams + 1, asyncio.Queue()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        await response.write(f": hello\r\n\r\nevent: endpoint\r\ndata: {self.endpoint}\r\n\r\n".encode())
        while (answer := await self.answers.get()) is not None:
            await response.write(b"event: message\r\ndata: " + json.dumps(answer).encode() + b"\r\n\r\n")
        return response


@pytest.fixture
def old(front: Front) -> OldServer:
    return OldServer(front)


def _messages(body: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: ")]


@requirement("G-15", "G-16")
async def test_a_request_gets_its_answer_and_what_comes_before_it(front: Front, old: OldServer) -> None:
    answer = await front.ask(legacy_call(7), LEGACY)
    assert (answer.status, answer.header("content-type"), answer.is_whole) == (200, "text/event-stream", True)
    progress, result = _messages(answer.body)
    assert (progress["method"], result["id"]) == ("notifications/progress", 7)
    methods = ["initialize", "notifications/initialized", "tools/call"]
    assert [(path, message["method"]) for path, message in old.posted] == [(old.endpoint, name) for name in methods]
    async with asyncio.timeout(5):
        await front.upstream.seen[0].left.wait()
    assert {seen.header("Authorization") for seen in front.upstream.seen} == {"Bearer upstream-0"}


@requirement("G13", "G-10")
async def test_an_event_that_is_too_long_is_told_in_place_of_the_answer(front: Front, old: OldServer) -> None:
    old.padding = 2 * 1024 * 1024
    answer = await front.ask(legacy_call(7), LEGACY)
    progress, error = _messages(answer.body)
    assert (answer.status, answer.is_whole, progress["method"]) == (200, True, "notifications/progress")
    assert (error["id"], error["error"]["message"]) == (7, "The server's answer is too long.")
    async with asyncio.timeout(5):
        await front.upstream.seen[0].left.wait()


async def test_initialize_is_the_clients_own_and_leaves_no_session(front: Front, old: OldServer) -> None:
    answer = await front.ask(legacy_call(1, method="initialize"), LEGACY)
    assert [message["method"] for _, message in old.posted] == ["initialize"]
    assert answer.header("mcp-session-id") is None
    body = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
    assert (await front.ask(body, LEGACY)).status == 202
    for method in ("GET", "DELETE"):
        assert (await front.ask(b"", LEGACY, method=method)).status == 405
    assert old.streams == 1


@requirement("G-15")
async def test_a_modern_client_is_told_what_such_a_server_speaks(front: Front, old: OldServer) -> None:
    answer = await front.ask(modern_call(7), MODERN)
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["data"]["supported"]) == (400, -32022, ["2024-11-05"])
    assert front.upstream.seen == []


@requirement("G-05")
async def test_a_refused_token_is_renewed_and_the_whole_begun_again(front: Front, old: OldServer) -> None:
    old.refusing = 401
    answer = await front.ask(legacy_call(7), LEGACY)
    assert (answer.status, front.renewed) == (200, 1)
    assert _messages(answer.body)[-1]["id"] == 7


@requirement("T-02")
@pytest.mark.parametrize("host", ["https://evil.example", "//evil.example", "http://localhost:{port}"])
async def test_an_address_for_messages_elsewhere_gets_no_credentials(
    front: Front, old: OldServer, settings: Settings, host: str
) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1", "localhost"]
    old.endpoint = host.format(port=front.upstream.url.split(":")[2].partition("/")[0]) + "/messages"
    answer = await front.ask(legacy_call(7), LEGACY)
    assert (answer.status, answer.json()["id"], old.posted) == (502, 7, [])


async def test_a_stream_that_ends_or_never_names_an_address_is_a_failure(front: Front, old: OldServer) -> None:
    front.change_server(timeout_seconds=0.2)
    old.endpoint = ""
    assert (await front.ask(legacy_call(7), LEGACY)).status == 504
    front.change_server(timeout_seconds=60)

    async def ends(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b": nothing\n\n", headers={"Content-Type": "text/event-stream"})

    front.upstream.behave = ends
    assert (await front.ask(legacy_call(7), LEGACY)).status == 502


async def test_a_message_that_is_never_quite_accepted_keeps_no_connection(front: Front, old: OldServer) -> None:
    async def behave(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return await old.behave(request)
        response = web.StreamResponse(status=202)
        await response.prepare(request)
        await response.write(b"not yet")
        await asyncio.Event().wait()
        return response

    front.change_server(timeout_seconds=0.1)
    front.upstream.behave = behave
    assert (await front.ask(legacy_call(7), LEGACY)).status == 504
    async with asyncio.timeout(5):
        for seen in front.upstream.seen:
            await seen.left.wait()
    assert [seen.method for seen in front.upstream.seen] == ["GET", "POST"]


async def test_a_token_bound_to_a_key_goes_with_a_proof_for_each_address_and_its_nonce(
    front: Front, old: OldServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs.forget_nonces()
    bound = BoundToken(Secret("bound"), SigningKey.new())
    credentials = Credentials(((b"Authorization", b"DPoP bound"),), bound.access_token, bound)
    monkeypatch.setattr(front, "_target", lambda: Target(front.server, credentials, front.connection_id))
    proved: list[tuple[str, str | None]] = []

    async def behave(request: web.Request) -> web.StreamResponse:
        call = Call(request.method, str(request.url), CaseInsensitiveDict(request.headers), "")
        proved.append((request.path, nonce := read_proof(call).claims.get("nonce")))
        if nonce is None:
            asks = {"WWW-Authenticate": 'DPoP error="use_dpop_nonce"', "DPoP-Nonce": "n-1"}
            return web.Response(status=401, headers=asks)
        return await old.behave(request)

    front.upstream.behave = behave
    answer = await front.ask(legacy_call(7), LEGACY)
    assert (answer.status, _messages(answer.body)[-1]["id"], front.renewed) == (200, 7, 0)
    assert proved == [
        ("/sse", None), ("/sse", "n-1"), ("/messages", None), *[("/messages", "n-1")] * 3,
    ]  # fmt: skip
    proofs.forget_nonces()
