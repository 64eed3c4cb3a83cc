"""The blocking way out: nothing private is reached, nothing is followed blindly, nothing takes for ever."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

import pytest
import requests
from django.db import connection
from pytest_django import Settings

from oauthflow.egress import Egress, Limits, blocking, resolve
from oauthflow.egress.addresses import Address
from oauthflow.protocol.errors import (
    AnswerLostError,
    BlockedUrlError,
    FlowError,
    MalformedResponseError,
    ResponseTimeoutError,
    TransportError,
)
from oauthflow.protocol.messages import Request, Response
from oauthflow.protocol.token_endpoint import TokenResponse, read_token_response
from oauthflow.protocol.trace import Trace
from tests.requirements import requirement

from .loopback import Canary, http_response, serving


@pytest.fixture
def canary() -> Iterator[Canary]:
    listener = Canary()
    yield listener
    listener.close()


class RedirectingAdapter(blocking.GuardedAdapter):
    """Answers for start.example with a redirect; whatever that leads to goes to the real adapter."""

    location = ""
    status = 302

    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        if not str(request.url).startswith("https://start.example/"):
            return super().send(request, *args, **kwargs)
        answer = requests.Response()
        answer.status_code, answer.url, answer.request = self.status, str(request.url), request
        answer.headers["Location"] = self.location
        return answer


def names_resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    asked: list[str] = []

    def lookup(host: str) -> list[Address]:
        asked.append(host)
        return [ipaddress.ip_address(answer) for answer in answers]

    monkeypatch.setattr(resolve, "lookup", lookup)
    return asked


def read_token(response: Response) -> TokenResponse:
    return read_token_response(response, requested_scope="", received_at=datetime(2026, 11, 21, tzinfo=UTC))


def redirect_to(location: str, *, status: str = "302 Found") -> bytes:
    return http_response(status=status, headers=(f"Location: {location}",))


def refused(attempt: Request) -> FlowError | None:
    try:
        Egress().send(attempt)
    except FlowError as error:
        return error
    return None


@requirement("U-01", "U-02", "U-03")
def test_no_url_of_the_corpus_is_connected_to(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    names_resolve_to(monkeypatch, "127.0.0.1")
    urls = canary.urls()
    let_through = [url for url in urls if not isinstance(refused(Request("GET", url)), BlockedUrlError)]
    assert len(urls) >= 200
    assert let_through == []
    assert canary.connections == 0


@requirement("U-01")
def test_no_post_and_no_token_request_reaches_a_url_of_the_corpus(
    canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    names_resolve_to(monkeypatch, "::1")
    form = {"grant_type": "refresh_token", "refresh_token": "r", "client_id": "c"}
    for url in canary.urls():
        assert isinstance(refused(Request("POST", url, form=form)), BlockedUrlError)
        with pytest.raises(BlockedUrlError):
            Egress().redeem(Request("POST", url, form=form), read=read_token)
    assert canary.connections == 0


@requirement("U-04")
def test_no_redirect_leads_to_a_url_of_the_corpus(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    names_resolve_to(monkeypatch, "127.0.0.1")
    monkeypatch.setattr(blocking, "adapter", RedirectingAdapter)
    for status in (302, 307):
        monkeypatch.setattr(RedirectingAdapter, "status", status)
        for url in canary.urls():
            monkeypatch.setattr(RedirectingAdapter, "location", url)
            assert refused(Request("GET", "https://start.example/")) is not None
    assert canary.connections == 0


@requirement("U-05")
@pytest.mark.parametrize("answers", [("127.0.0.1",), ("8.8.8.8", "127.0.0.1"), ("2606:4700::1", "::1"), ("10.0.0.1",)])
def test_a_name_with_a_private_address_is_not_connected_to(
    answers: tuple[str, ...], canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    names_resolve_to(monkeypatch, *answers)
    with pytest.raises(BlockedUrlError):
        Egress().send(Request("GET", f"https://as.example:{canary.port}/"))
    assert canary.connections == 0


@requirement("U-05")
def test_a_name_is_looked_up_once_and_the_judged_address_is_dialled(
    canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled: list[str] = []
    answers = iter([["9.9.9.9"], ["127.0.0.1"]])

    def connect(address: Address, **_: object) -> None:
        dialled.append(str(address))

    monkeypatch.setattr(resolve, "lookup", lambda host: [ipaddress.ip_address(one) for one in next(answers)])
    monkeypatch.setattr(resolve, "_connect", connect)
    with pytest.raises(TransportError):
        Egress().send(Request("GET", f"https://as.example:{canary.port}/"))
    assert dialled == ["9.9.9.9"]
    assert next(answers) == ["127.0.0.1"]
    assert canary.connections == 0


@requirement("U-02")
def test_a_listed_host_is_reached_by_plain_http(settings: Settings) -> None:
    with serving(http_response(b'{"a": 1}', headers=("X-One: 1", "x-one: 2"))) as server:
        settings.EGRESS_ALLOW = (f"127.0.0.1:{server.port}",)
        response = Egress().send(Request("GET", f"{server.url}/path?q=1", headers={"X-Mine": "yes"}))
    assert (response.status, response.body, response.headers["x-one"]) == (200, b'{"a": 1}', "1, 2")
    assert server.requests[0].startswith(b"GET /path?q=1 HTTP/1.1\r\n")
    assert b"\r\nX-Mine: yes\r\n" in server.requests[0]


def test_json_and_form_bodies_are_sent(settings: Settings) -> None:
    with serving(http_response()) as server:
        settings.EGRESS_ALLOW = ("127.0.0.1",)
        Egress().send(Request("POST", server.url, json={"redirect_uris": ["https://a.example/cb"]}))
        Egress().send(Request("POST", server.url, form={"token": "a b&c"}))
    assert server.requests[0].endswith(b'{"redirect_uris": ["https://a.example/cb"]}')
    assert server.requests[1].endswith(b"\r\n\r\ntoken=a+b%26c")


def test_nothing_of_the_environment_is_used(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, canary: Canary, tmp_path: object
) -> None:
    netrc = f"{tmp_path}/netrc"
    with open(netrc, "w", encoding="ascii") as file:
        file.write("machine 127.0.0.1 login somebody password netrc-password\n")
    monkeypatch.setenv("NETRC", netrc)
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    with serving(http_response(headers=("Set-Cookie: a=b",))) as server:
        settings.EGRESS_ALLOW = ("127.0.0.1",)
        for _ in range(2):
            assert Egress().send(Request("GET", server.url)).status == 200
    assert canary.connections == 0
    assert not any(word in request for request in server.requests for word in (b"Authorization", b"Cookie"))


@requirement("U-04")
def test_a_get_follows_three_redirects_without_its_headers(settings: Settings) -> None:
    found = http_response(b'{"there": true}')
    with serving(found) as target, serving(redirect_to(f"{target.url}/next")) as server:
        settings.EGRESS_ALLOW = ("127.0.0.1",)
        trace = Trace()
        request = Request("GET", server.url, headers={"Authorization": "Bearer secret"})
        response = Egress(trace=trace).send(request, step="metadata")
    assert (response.body, response.url) == (b'{"there": true}', f"{target.url}/next")
    assert b"Authorization" in server.requests[0]
    assert b"Authorization" not in target.requests[0]
    assert [step.status for step in trace.steps] == [302, 200]


@pytest.mark.parametrize(("allowed", "sent"), [(3, 4), (0, 1)])
def test_more_redirects_than_allowed_are_refused(allowed: int, sent: int, settings: Settings) -> None:
    with serving(redirect_to("/again", status="301 Moved")) as server:
        settings.EGRESS_ALLOW = ("127.0.0.1",)
        with pytest.raises(MalformedResponseError):
            Egress().send(Request("GET", server.url), limits=Limits(1000, max_redirects=allowed))
    assert len(server.requests) == sent


@requirement("U-04")
@pytest.mark.parametrize("location", ["https://as.example/", "file:///etc/passwd", "http://[", "", "//\\@x"])
def test_a_redirect_to_another_scheme_or_to_nothing_is_refused(location: str, settings: Settings) -> None:
    with serving(redirect_to(location, status="302 Found")) as server:
        settings.EGRESS_ALLOW = (f"127.0.0.1:{server.port}",)
        with pytest.raises((MalformedResponseError, BlockedUrlError)):
            Egress().send(Request("GET", server.url))
    assert len(server.requests) == 1


@requirement("U-04")
@pytest.mark.parametrize("status", ["301 x", "302 x", "303 x", "307 x", "308 x"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_redirect_of_anything_but_a_get_is_an_error_and_the_body_is_sent_once(
    method: Literal["POST", "PUT", "DELETE"], status: str, canary: Canary, settings: Settings
) -> None:
    with serving(redirect_to(f"http://127.0.0.1:{canary.port}/", status=status)) as server:
        settings.EGRESS_ALLOW = ("127.0.0.1",)
        with pytest.raises(MalformedResponseError):
            Egress().send(Request(method, server.url, form={"client_secret": "s3cret"}))
    assert len(server.requests) == 1
    assert canary.connections == 0


def test_closed_and_silent_ports_give_the_same_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    listener = Canary()
    port = listener.port
    listener.close()
    closed = refused(Request("GET", f"http://127.0.0.1:{port}/"))
    monkeypatch.setattr(resolve, "_connect", lambda address, **_: None)
    silent = refused(Request("GET", f"http://127.0.0.1:{port}/"))
    assert isinstance(closed, TransportError)
    assert str(closed) == str(silent)


def test_an_answer_that_was_lost_is_told_from_a_request_that_was_not_sent(settings: Settings) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    with serving(b"") as server:
        lost = refused(Request("POST", server.url, form={"grant_type": "refresh_token"}))
    unsent = refused(Request("POST", server.url, form={"grant_type": "refresh_token"}))
    assert (type(lost), type(unsent), len(server.requests)) == (AnswerLostError, TransportError, 1)


def test_a_blocked_url_is_in_the_trace() -> None:
    trace = Trace()
    with pytest.raises(BlockedUrlError):
        Egress(trace=trace).send(Request("GET", "https://10.0.0.1/metadata?secret=1"), step="metadata")
    assert [(step.step, step.url, step.status) for step in trace.steps] == [
        ("metadata", "https://10.0.0.1/metadata", None)
    ]


@pytest.mark.django_db
def test_nothing_is_sent_while_a_transaction_is_open() -> None:
    assert connection.in_atomic_block
    for send in (Egress().send, lambda request: Egress().redeem(request, read=read_token)):
        with pytest.raises(RuntimeError):
            send(Request("GET", "https://as.example/"))


def test_a_name_that_answers_too_slowly_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "lookup", lambda host: _never(host))
    with pytest.raises(ResponseTimeoutError):
        Egress().send(Request("GET", "https://as.example/"), limits=Limits(1000, connect_seconds=0.05))


def _never(host: str) -> list[Address]:
    threading.Event().wait(0.2)
    return [ipaddress.ip_address("127.0.0.1")]
