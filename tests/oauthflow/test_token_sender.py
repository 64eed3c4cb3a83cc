"""The sender of batches goes through the guard, and judges like the one for single requests."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest
from pytest_django import Settings

from oauthflow.egress import Answer as Sent
from oauthflow.egress import Egress, Limits, Sender, open_sender, origin, resolve
from oauthflow.egress.token_sender import TokenSender, _Exchange
from oauthflow.protocol.errors import (
    AnswerLostError,
    BlockedUrlError,
    FlowError,
    MalformedResponseError,
    ResponseTimeoutError,
    TransportError,
)
from oauthflow.protocol.messages import Request, Response
from oauthflow.protocol.signing_key import SigningKey
from tests.fakes.internet import Answer, Call
from tests.fakes.served import served
from tests.product import free_port

from .loopback import http_response, serving
from .test_egress_tls import certificate_for


@pytest.fixture
def sender(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sender]:
    monkeypatch.setattr("oauthflow.egress.blocking.in_transaction", lambda: False)
    opened = open_sender()
    yield opened
    opened.close()


def sent(sender: Sender, url: str, *, not_after: float | None = None) -> Sent:
    request = Request("POST", url, form={"refresh_token": "a b&c"})
    sender.submit("key", request, not_after=time.monotonic() + 5 if not_after is None else not_after)
    answer = sender.next(seconds=10)
    assert answer is not None
    assert answer.key == "key"
    return answer


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/token", "https://10.0.0.1/token", "https://[::1]/token"])
def test_addresses_that_nobody_allowed_are_not_contacted(sender: Sender, settings: Settings, url: str) -> None:
    settings.EGRESS_ALLOW = ()
    assert isinstance(sent(sender, url).outcome, BlockedUrlError)


# U-05: the name passes where networks are allowed, its address does not.
def test_a_name_is_judged_by_what_it_resolves_to(
    sender: Sender, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EGRESS_ALLOW = ("192.0.2.0/24",)
    assert isinstance(sent(sender, "https://localhost:9/token").outcome, BlockedUrlError)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(200, {"access_token": "x"}), 200),
        (Answer(503, "busy", {"Retry-After": "3"}), 503),
        (Answer(307, "", {"Location": "http://elsewhere.example/"}), MalformedResponseError),
        (Answer(200, "x" * 70_000), MalformedResponseError),
        (Answer(200, "not packed", {"Content-Encoding": "gzip"}), MalformedResponseError),
    ],
)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_what_comes_back_is_complete_or_refused(
    sender: Sender, settings: Settings, answer: Answer, expected: int | type[Exception], host: str
) -> None:
    settings.EGRESS_ALLOW = ("localhost", "127.0.0.1")
    asked: list[Call] = []

    def endpoint(call: Call) -> Answer:
        asked.append(call)
        return answer

    port = free_port()
    with served(endpoint, port=port):
        outcome = sent(sender, f"http://{host}:{port}/token").outcome
    assert [(call.method, call.form) for call in asked] == [("POST", {"refresh_token": "a b&c"})]
    assert (outcome.status if isinstance(outcome, Response) else type(outcome)) == expected


def test_nobody_there_and_too_late_are_told_apart(sender: Sender, settings: Settings) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    url = f"http://127.0.0.1:{free_port()}/token"
    nobody, late = sent(sender, url), sent(sender, url, not_after=time.monotonic() - 1)

    assert isinstance(nobody.outcome, TransportError)
    assert nobody.was_sent
    assert isinstance(late.outcome, ResponseTimeoutError)
    assert not late.was_sent


def raw(sender: Sender, settings: Settings, *answers: bytes) -> list[Response | FlowError]:
    """Send a request for each of these answers to one server that gives them as they are, then hangs up."""
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    waiting = iter(answers)
    with serving(lambda connection: connection.sendall(next(waiting))) as server:
        return [sent(sender, f"{server.url}/token").outcome for _ in answers]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n{}", b"{}"),
        (b"HTTP/1.0 200 OK\nContent-Length: 2\n\n{}", b"{}"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\n{\r\n1\r\n}\r\n0\r\n\r\n", b"{}"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (b"", AnswerLostError),
        (b"SSH-2.0-OpenSSH\r\n", MalformedResponseError),
        (b"HTTP/1.1 200 OK\r\nContent-Type: app", MalformedResponseError),
        (b"\r\n", MalformedResponseError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}", MalformedResponseError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", MalformedResponseError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", MalformedResponseError),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", MalformedResponseError),
        (b"HTTP/1.1 200 OK\r\n" + b"X-Filler: " + b"x" * 200_000, MalformedResponseError),
    ],
)
def test_every_way_to_end_a_response_is_read_and_every_damage_is_seen(
    sender: Sender, settings: Settings, answer: bytes, expected: bytes | type[Exception]
) -> None:
    (outcome,) = raw(sender, settings, answer)
    assert (outcome.body if isinstance(outcome, Response) else type(outcome)) == expected


GRANTED = b'{"access_token": "a"}'


def length_and(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


PLAIN = length_and(GRANTED)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(GRANTED), GRANTED)
PACKED, BOMB = gzip.compress(GRANTED), gzip.compress(b" " * 70_000)


# F01: where the token was spent already, an answer that is thrown away is a connection lost.
@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"Content-Length: %d\r\n%s" % (len(GRANTED), CHUNKED), GRANTED),
        (b"Transfer-Encoding: identity\r\n" + PLAIN, GRANTED),
        (b"Transfer-Encoding: identity\r\n\r\n" + GRANTED, GRANTED),
        (b"Content-Encoding: UTF-8\r\n" + PLAIN, GRANTED),
        (b"Content-Encoding: \r\n" + PLAIN, GRANTED),
        (b"X-Folded: a\r\n b\r\n" + PLAIN, GRANTED),
        (b"X-Control: a\x01b\r\n" + PLAIN, GRANTED),
        (b"Content-Encoding: gzip\r\n" + length_and(PACKED), GRANTED),
        (b"Content-Encoding: gzip\r\n" + length_and(BOMB), None),
        (b"Content-Encoding: gzip\r\n" + PLAIN, None),
        (b"Content-Length: %d\r\nX-Between: a\r\n" % len(GRANTED) + PLAIN, GRANTED),
        (b"Content-Length: %d, %d\r\n\r\n%s" % (len(GRANTED), len(GRANTED), GRANTED), GRANTED),
        (b"Content-Encoding: deflate\r\n" + length_and(zlib.compress(GRANTED)), GRANTED),
        (b"Content-Encoding: deflate\r\n" + length_and(zlib.compress(GRANTED, wbits=-15)), GRANTED),
        (b"Content-Encoding: gzip\r\n" + length_and(gzip.compress(GRANTED[:9]) + gzip.compress(GRANTED[9:])), GRANTED),
        (b"Content-Encoding: gzip\r\n" + length_and(PACKED + b"\0\0"), GRANTED),
        (b"Content-Encoding: gzip\r\n" + length_and(PACKED + BOMB), None),
    ],
)
def test_what_a_sign_in_is_read_from_a_refresh_is_read_from(
    sender: Sender, settings: Settings, answer: bytes, body: bytes | None
) -> None:
    whole = b"HTTP/1.1 200 OK\r\n" + answer
    (outcome,) = raw(sender, settings, whole)
    assert (outcome.body if isinstance(outcome, Response) else None) == body
    with serving(whole) as server, suppress(MalformedResponseError):
        assert Egress().send(Request("POST", server.url, form={}), limits=Limits.REFRESH).body == body


def test_a_head_that_comes_byte_by_byte_is_read_the_same(sender: Sender, settings: Settings) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s" % (len(GRANTED), PLAIN)

    def slowly(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in whole:
            connection.sendall(bytes([byte]))

    with serving(slowly) as server:
        outcome = sent(sender, f"{server.url}/token").outcome
    assert isinstance(outcome, Response)
    assert outcome.body == GRANTED


def test_an_answer_with_two_lengths_is_the_last_on_its_connection(sender: Sender, settings: Settings) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + CHUNKED

    def stays(connection: socket.socket) -> None:
        connection.sendall(answer)
        connection.recv(1)

    with serving(stays) as server:
        for _ in range(2):
            assert isinstance(sent(sender, f"{server.url}/token").outcome, Response)
        assert len(server.requests) == 2


def test_a_second_response_to_one_request_is_nobodys(sender: Sender, settings: Settings) -> None:
    one = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
    first, second = raw(sender, settings, one + b"1" + one + b"X", one + b"2")

    assert isinstance(first, Response)
    assert isinstance(second, Response)
    assert (first.body, second.body) == (b"1", b"2")


def test_a_header_that_would_begin_another_one_is_not_sent(sender: Sender, settings: Settings) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    with serving(b"") as server:
        request = Request("POST", f"{server.url}/token", headers={"Authorization": "a\r\nX: b"}, form={})
        sender.submit("key", request, not_after=time.monotonic() + 5)
        answer = sender.next(seconds=10)
    assert answer is not None
    assert isinstance(answer.outcome, TransportError)
    assert server.requests in ([], [b""])


def test_the_certificate_is_checked_against_the_name(
    sender: Sender, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.0/8",)
    file, tls = certificate_for("as.example", tmp_path)
    monkeypatch.setattr(origin, "tls_context", lambda: ssl.create_default_context(cafile=str(file)))
    monkeypatch.setattr(resolve, "lookup", lambda host: [ipaddress.ip_address("127.0.0.1")])
    with serving(http_response(), tls=tls) as server:
        right = sent(sender, f"https://as.example:{server.port}/token").outcome
        wrong = sent(sender, f"https://other.example:{server.port}/token").outcome

    assert isinstance(right, Response)
    assert isinstance(wrong, TransportError)
    assert len(server.requests) == 1


def test_a_deletion_is_sent_as_one_and_without_a_body(sender: Sender, settings: Settings) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    with serving(b"HTTP/1.1 204 No Content\r\n\r\n") as server:
        request = Request("DELETE", f"{server.url}/register/1", headers={"Authorization": "Bearer rat"})
        sender.submit("key", request, not_after=time.monotonic() + 5)
        answer = sender.next(seconds=10)
    assert answer is not None
    assert isinstance(answer.outcome, Response)
    assert answer.outcome.status == 204
    (sent_once,) = server.requests
    head, _, body = sent_once.partition(b"\r\n\r\n")
    assert head.startswith(b"DELETE /register/1 HTTP/1.1\r\n")
    assert b"Authorization: Bearer rat" in head
    assert body == b""


def test_a_request_that_waits_for_a_second_connection_takes_nobody_elses_first_one_down(
    sender: Sender, settings: Settings
) -> None:
    settings.EGRESS_ALLOW = ()
    assert isinstance(sender, TokenSender)
    request = Request("POST", "https://10.0.0.1/token", form={}, dpop_key=SigningKey.new())
    said = {"dpop-nonce": "n", "content-type": "application/json"}
    nonce = Response(400, url=request.url, headers=said, body=b'{"error": "use_dpop_nonce"}')
    exchange = _Exchange("key", request, time.monotonic() + 5)
    exchange.wire = first = Mock()

    async def ask_again_and_expire(sender: TokenSender) -> None:
        sender._answered(exchange, nonce)
        sender._expire(exchange)

    asyncio.run_coroutine_threadsafe(ask_again_and_expire(sender), sender._loop).result()
    assert sender.next(seconds=10) is not None
    assert exchange.is_second
    first.abandon.assert_not_called()
