"""The sender of batches goes through the guard, and judges like the one for single requests."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from oauthflow.egress import Answer as Sent
from oauthflow.egress import Sender, open_sender
from oauthflow.protocol.errors import (
    BlockedUrlError,
    MalformedResponseError,
    ResponseTimeoutError,
    TransportError,
)
from oauthflow.protocol.messages import Request, Response
from tests.fakes.internet import Answer, Call
from tests.fakes.served import served
from tests.product import free_port


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
        (Answer(200, "x", {"Content-Encoding": "gzip"}), MalformedResponseError),
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
    assert outcome.status == expected if isinstance(outcome, Response) else isinstance(outcome, expected)


def test_nobody_there_and_too_late_are_told_apart(sender: Sender, settings: Settings) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    url = f"http://127.0.0.1:{free_port()}/token"
    nobody, late = sent(sender, url), sent(sender, url, not_after=time.monotonic() - 1)

    assert isinstance(nobody.outcome, TransportError)
    assert nobody.was_sent
    assert isinstance(late.outcome, ResponseTimeoutError)
    assert not late.was_sent
