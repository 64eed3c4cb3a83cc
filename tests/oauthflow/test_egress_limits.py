"""Slow, large and broken responses: each ends with an error of ours, in time."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import zlib
from collections.abc import Callable

import pytest
from pytest_django import Settings

from oauthflow.egress import Egress, Limits
from oauthflow.protocol.errors import FlowError, MalformedResponseError, ResponseTimeoutError, TransportError
from oauthflow.protocol.messages import Request, Response
from tests.requirements import requirement

from .loopback import Script, http_response, serving

SMALL = Limits(1000, connect_seconds=0.3, first_byte_seconds=0.3, total_seconds=0.3)
ROOMY = Limits(100_000, connect_seconds=2, first_byte_seconds=2, total_seconds=4)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def fetch(script: Script | bytes, settings: Settings, *, limits: Limits = ROOMY) -> Response:
    with serving(script) as server:
        settings.EGRESS_ALLOW = ("127.0.0.1",)
        return Egress().send(Request("GET", server.url), limits=limits)


def dripping(start: bytes, drop: bytes) -> Script:
    def drip(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(drop)
            threading.Event().wait(0.02)

    return drip


def silent(connection: socket.socket) -> None:
    connection.recv(1)


def endless(start: bytes, part: bytes) -> Script:
    def flood(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(part)

    return flood


@requirement("U-01")
@pytest.mark.parametrize(
    "script",
    [
        silent,
        dripping(b"", b"H"),
        dripping(b"HTTP/1.1 200 OK\r\n", b"x"),
        dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        dripping(HEAD + b"Content-Length: 900\r\n\r\n", b"x"),
        dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        dripping(HEAD + b"\r\n", b"x"),
    ],
    ids=["silence", "status", "header", "headers", "continue", "body", "chunks", "until close"],
)
def test_a_response_that_drips_ends_with_the_deadline(script: Script, settings: Settings) -> None:
    started = time.monotonic()
    with pytest.raises(ResponseTimeoutError):
        fetch(script, settings, limits=SMALL)
    assert time.monotonic() - started < 1


def test_the_first_byte_has_its_own_deadline(settings: Settings) -> None:
    limits = Limits(1000, first_byte_seconds=0.1, total_seconds=30)
    with pytest.raises(ResponseTimeoutError):
        fetch(silent, settings, limits=limits)


@pytest.mark.parametrize(("size", "fits"), [(1000, True), (1001, False)])
def test_the_largest_body_is_read_and_one_byte_more_is_not(size: int, fits: bool, settings: Settings) -> None:
    limits = Limits(1000)
    if fits:
        assert len(fetch(http_response(b"x" * size), settings, limits=limits).body) == size
    else:
        with pytest.raises(MalformedResponseError):
            fetch(http_response(b"x" * size), settings, limits=limits)


def test_the_size_counts_after_decompression(settings: Settings) -> None:
    body = gzip.compress(b"y" * 1000)
    gzipped = http_response(body, headers=("Content-Encoding: gzip",))
    assert fetch(gzipped, settings, limits=Limits(1000)).body == b"y" * 1000
    with pytest.raises(MalformedResponseError):
        fetch(gzipped, settings, limits=Limits(999))


@pytest.mark.parametrize(
    ("coding", "compress"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("gzip, gzip", lambda b: gzip.compress(gzip.compress(b)))],
)
def test_a_decompression_bomb_is_not_unpacked(
    coding: str, compress: Callable[[bytes], bytes], settings: Settings
) -> None:
    bomb = compress(b"0" * 50_000_000)
    with pytest.raises(MalformedResponseError):
        fetch(http_response(bomb, headers=(f"Content-Encoding: {coding}",)), settings)


@pytest.mark.parametrize(
    "script",
    [
        endless(HEAD + b"\r\n", b"x" * 65536),
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        endless(HEAD + b"Content-Length: 10737418240\r\n\r\n", b"x" * 65536),
        endless(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 65536),
        endless(b"HTTP/1.1 200 OK\r\n", b"X-One: " + b"y" * 60_000 + b"\r\n"),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        endless(b"", b"H" * 65536),
    ],
    ids=["body", "chunks", "announced", "header line", "headers", "continue", "status line"],
)
def test_a_response_without_end_is_not_read_to_it(script: Script, settings: Settings) -> None:
    with pytest.raises(MalformedResponseError):
        fetch(script, settings)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        http_response(b"not gzip", headers=("Content-Encoding: gzip",)),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
    ids=["other protocol", "status", "coding", "two lengths", "200 headers"],
)
def test_what_is_not_http_is_a_malformed_response(answer: bytes, settings: Settings) -> None:
    with pytest.raises(MalformedResponseError):
        fetch(answer, settings)


@pytest.mark.parametrize(
    "answer",
    [b"", http_response(b"x" * 10)[:-5], HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"],
    ids=["nothing", "cut body", "cut chunk"],
)
def test_a_connection_that_ends_early_is_a_transport_error(answer: bytes, settings: Settings) -> None:
    with pytest.raises(TransportError) as caught:
        fetch(answer, settings)
    assert caught.value.retryable


def test_an_event_stream_is_not_waited_for(settings: Settings) -> None:
    stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n: hello\n\n"
    response = fetch(dripping(stream, b": ping\n\n"), settings)
    assert (response.status, response.body) == (200, b"")


def test_redirects_share_one_deadline(settings: Settings) -> None:
    def slowly(connection: socket.socket) -> None:
        threading.Event().wait(0.12)
        connection.sendall(http_response(status="302 Found", headers=("Location: /again",)))

    with pytest.raises(ResponseTimeoutError):
        fetch(slowly, settings, limits=Limits(1000, total_seconds=0.3, max_redirects=20))


def test_no_error_repeats_what_the_server_said_or_leads_to_the_request(settings: Settings) -> None:
    for answer in (
        b"HTTP/1.1 canary-word OK\r\n\r\n",
        http_response(b"canary-word", headers=("Content-Encoding: gzip",)),
        http_response(b"canary-word" * 1000),
        http_response(status="302 canary-word", headers=("Location: ftp://canary-word/",)),
    ):
        with pytest.raises(FlowError) as caught:
            fetch(answer, settings, limits=Limits(1000))
        assert "canary-word" not in f"{caught.value}{caught.value.detail}{caught.value.message}"
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None or isinstance(caught.value.__context__, FlowError | ValueError)
