"""The guarded client for the MCP SDK: the same guard, and the SDK works over it."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
import uvicorn
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from pytest_django import Settings

from oauthflow.egress import asynchronous, blocking, guarded_client_factory, guarded_http_client, resolve
from oauthflow.egress.limits import Limits
from oauthflow.protocol.errors import (
    BlockedUrlError,
    FlowError,
    MalformedResponseError,
    ResponseTimeoutError,
    TransportError,
)
from tests.requirements import requirement

from .loopback import Canary, Script, http_response, serving

CLOSE = ("Connection: close",)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"


@pytest.fixture
def canary() -> Iterator[Canary]:
    listener = Canary()
    yield listener
    listener.close()


def dripping(start: bytes, drop: bytes, *, times: int = 500) -> Script:
    def drip(connection: socket.socket) -> None:
        connection.sendall(start)
        for _ in range(times):
            connection.sendall(drop)
            threading.Event().wait(0.02)

    return drip


async def fetch(
    script: Script | bytes, settings: Settings, *, timeout_seconds: float = 2, headers: dict[str, str] | None = None
) -> tuple[httpx2.Response, bytes]:
    with serving(script) as server:
        settings.EGRESS_ALLOW = ("127.0.0.1",)
        async with guarded_http_client(headers=headers or {}, timeout_seconds=timeout_seconds) as client:
            response = await client.get(f"{server.url}/mcp?a=b")
    return response, server.requests[0]


@requirement("U-01", "U-03")
async def test_no_url_of_the_corpus_is_connected_to(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "lookup", lambda host: [ipaddress.ip_address("127.0.0.1")])
    async with guarded_http_client(headers={}, timeout_seconds=2) as client:
        for url in canary.urls():
            with pytest.raises((FlowError, httpx2.InvalidURL, httpx2.UnsupportedProtocol)):
                await client.get(url)
    assert canary.connections == 0


@requirement("U-05")
@pytest.mark.parametrize("answers", [("127.0.0.1",), ("8.8.8.8", "127.0.0.1"), ("2606:4700::1", "::1")])
async def test_a_name_with_a_private_address_is_not_connected_to(
    answers: tuple[str, ...], canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "lookup", lambda host: [ipaddress.ip_address(answer) for answer in answers])
    async with guarded_http_client(headers={}, timeout_seconds=2) as client:
        with pytest.raises(BlockedUrlError):
            await client.get(f"https://mcp.example:{canary.port}/mcp")
    assert canary.connections == 0


@requirement("U-05")
async def test_a_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    answers = iter([["127.0.0.1"]])
    monkeypatch.setattr(resolve, "lookup", lambda host: [ipaddress.ip_address(one) for one in next(answers)])
    with serving(http_response(headers=CLOSE)) as server:
        settings.EGRESS_ALLOW = ("127.0.0.0/8",)
        async with guarded_http_client(headers={}, timeout_seconds=2) as client:
            assert (await client.get(f"http://mcp.internal:{server.port}/")).status_code == 200
    assert f"\r\nHost: mcp.internal:{server.port}\r\n".encode() in server.requests[0]


async def test_headers_and_target_arrive_and_nothing_of_the_environment(
    canary: Canary, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    response, request = await fetch(http_response(headers=CLOSE), settings, headers={"Authorization": "Bearer t"})
    assert (response.status_code, response.content) == (200, b"{}")
    assert request.startswith(b"GET /mcp?a=b HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer t\r\n" in request
    assert b"\r\nAccept-Encoding: identity\r\n" in request
    assert canary.connections == 0


@requirement("U-04")
async def test_a_redirect_is_not_followed_by_the_client(canary: Canary, settings: Settings) -> None:
    elsewhere = f"Location: http://127.0.0.1:{canary.port}/"
    response, _ = await fetch(http_response(status="307 x", headers=(elsewhere, *CLOSE)), settings)
    assert response.status_code == 307
    assert canary.connections == 0


@pytest.mark.parametrize(
    "script",
    [
        lambda connection: connection.recv(1),
        dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        dripping(HEAD + b"Content-Length: 900\r\n\r\n", b"x"),
        dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["silence", "headers", "body", "chunks"],
)
async def test_a_response_that_drips_ends_with_the_deadline(script: Script, settings: Settings) -> None:
    started = time.monotonic()
    with pytest.raises(ResponseTimeoutError):
        await fetch(script, settings, timeout_seconds=0.2)
    assert time.monotonic() - started < 1


async def test_an_event_stream_may_last_longer_than_the_deadline(settings: Settings) -> None:
    stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    response, _ = await fetch(dripping(stream, b": ping\n\n", times=15), settings, timeout_seconds=0.2)
    assert response.content == b": ping\n\n" * 15


async def test_a_response_that_is_too_large_or_compressed_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asynchronous.transport, "__defaults__", (Limits(1000),))
    assert len((await fetch(http_response(b"x" * 1000, headers=CLOSE), settings))[0].content) == 1000
    for answer in (
        http_response(b"x" * 1001, headers=CLOSE),
        http_response(b"x", headers=("Content-Encoding: gzip", *CLOSE)),
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000,
        b"SSH-2.0-OpenSSH\r\n\r\n",
    ):
        with pytest.raises(MalformedResponseError):
            await fetch(answer, settings)


async def test_closed_and_silent_ports_give_the_same_error(settings: Settings, canary: Canary) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    canary.close()
    async with guarded_http_client(headers={}, timeout_seconds=1) as client:
        with pytest.raises(TransportError, match="no address of the host could be connected to"):
            await client.get(f"http://127.0.0.1:{canary.port}/")


@pytest.mark.parametrize(
    ("answer", "error"),
    [(b"", TransportError), (http_response(b"x" * 10, headers=CLOSE)[:-5], MalformedResponseError)],
)
async def test_a_connection_that_ends_early_is_an_error(
    answer: bytes, error: type[FlowError], settings: Settings
) -> None:
    with pytest.raises(error):
        await fetch(answer, settings)


def test_no_client_is_made_while_a_transaction_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "in_transaction", lambda: True)
    with pytest.raises(RuntimeError):
        guarded_http_client(headers={}, timeout_seconds=1)


@requirement("U-01")
async def test_the_sdk_reaches_no_private_server_over_the_guarded_client(canary: Canary) -> None:
    url = f"https://127.0.0.1:{canary.port}/mcp"
    with pytest.RaisesGroup(BlockedUrlError, allow_unwrapped=True, flatten_subgroups=True):
        async with sse_client(url, httpx_client_factory=guarded_client_factory):
            raise AssertionError("connected")
    http = guarded_http_client(headers={}, timeout_seconds=1)
    with pytest.RaisesGroup(BlockedUrlError, allow_unwrapped=True, flatten_subgroups=True):
        async with http, Client(streamable_http_client(url, http_client=http)) as client:
            await client.list_tools()
    assert canary.connections == 0


async def test_the_sdk_calls_a_tool_over_the_guarded_client(settings: Settings) -> None:
    server = MCPServer("loopback")
    server.tool()(double)
    with running(server.streamable_http_app()) as port:
        settings.EGRESS_ALLOW = (f"127.0.0.1:{port}",)
        http = guarded_http_client(headers={"Authorization": "Bearer t"}, timeout_seconds=5)
        async with http, Client(streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)) as client:
            result = await client.call_tool("double", {"number": 21})
    assert result.structured_content == {"result": 42}


def double(number: int) -> int:
    return 2 * number


@contextmanager
def running(application: Any) -> Iterator[int]:
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="critical"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
