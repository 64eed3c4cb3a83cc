"""Callers with tokens that their issuer is asked about. RFC 7662."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User

from gateway.callers.external_tokens import EXTERNAL_TOKENS
from gateway.callers.issuer_requests import IssuerRequests, IssuerUnavailableError
from gateway.endpoint.challenges import InsufficientScopeError, InvalidTokenError
from gateway.models import InboundTrust
from tests.authserver.grants import notes, nothing_remembered
from tests.fakes.internet import Answer, FakeInternet
from tests.requirements import requirement

from .calling import bearer, is_still_good, nothing_known
from .external_issuer import AUDIENCE, ISSUER, ExternalIssuer, asked, issuer, passed, trust

__all__ = ["asked", "issuer", "notes", "nothing_known", "nothing_remembered", "trust"]
pytestmark = pytest.mark.django_db(transaction=True)


# ---- Introspection


def active(issuer: ExternalIssuer, **changes: Any) -> dict[str, Any]:
    return issuer.claims(**{"active": True, "token_type": "Bearer", **changes})


@requirement("T-03", "T-04")
def test_an_active_token_for_this_server_is_taken_and_the_issuer_asked_once_in_a_while(
    asked: InboundTrust, issuer: ExternalIssuer, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.answers["opaque"] = active(issuer)
    for _ in range(3):
        assert bearer("opaque").user_id == alice.pk
    assert len(issuer.introspections) == 1
    assert issuer.introspections[0].form == {"token": "opaque", "token_type_hint": "access_token"}
    passed(monkeypatch, asked.cache_seconds)
    issuer.answers["opaque"] = {"active": False}
    with pytest.raises(InvalidTokenError):
        bearer("opaque")


def test_tokens_that_somebody_makes_up_push_out_none_that_are_good(
    asked: InboundTrust, issuer: ExternalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kept in (EXTERNAL_TOKENS._good, EXTERNAL_TOKENS._refused):
        monkeypatch.setattr(kept, "_most", 3)
    issuer.answers["opaque"] = active(issuer)
    bearer("opaque")
    for number in range(5):
        with pytest.raises(InvalidTokenError):
            bearer(f"made-up-{number}")
    bearer("opaque")
    with pytest.raises(InvalidTokenError):
        bearer("made-up-4")
    assert [call.form["token"] for call in issuer.introspections] == ["opaque", *(f"made-up-{n}" for n in range(5))]


def test_an_answer_is_never_believed_beyond_the_end_of_the_token(
    asked: InboundTrust, issuer: ExternalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.answers["opaque"] = active(issuer, exp=int(time.time()) + 5)
    caller = bearer("opaque")
    ran = time.time
    monkeypatch.setattr(time, "time", lambda: ran() + 16)
    with pytest.raises(InvalidTokenError):
        bearer("opaque")
    assert not is_still_good(caller)


@requirement("G-24")
@pytest.mark.parametrize("seconds", [6, 16], ids=["within the skew", "after it"])
def test_a_token_that_has_expired_is_no_news_to_an_answer_that_may_outlive_it(
    asked: InboundTrust, issuer: ExternalIssuer, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """The issuer says of it, too, that it is not active: nobody can tell whether it was revoked besides."""
    issuer.answers["opaque"] = active(issuer, exp=int(time.time()) + 5)
    caller, at = bearer("opaque"), time.time()
    issuer.answers["opaque"] = {"active": False}
    ran = time.time
    passed(monkeypatch, asked.cache_seconds)
    monkeypatch.setattr(time, "time", lambda: ran() + seconds)
    with pytest.raises(InvalidTokenError):
        bearer("opaque")
    assert is_still_good(caller, at=at)
    assert not is_still_good(caller)
    User.objects.update(is_active=False)
    assert not is_still_good(caller, at=at)


def test_a_token_that_was_revoked_before_ends_that_too(
    asked: InboundTrust, issuer: ExternalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.answers["opaque"] = active(issuer, exp=int(time.time()) + 300)
    caller, at = bearer("opaque"), time.time()
    issuer.answers["opaque"] = {"active": False}
    passed(monkeypatch, asked.cache_seconds)
    assert not is_still_good(caller, at=at)


@requirement("T-03", "T-04", "T-05")
def test_a_token_that_the_issuer_does_not_vouch_for_here_is_refused(
    asked: InboundTrust, issuer: ExternalIssuer
) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "not-active": {"active": False},
        "not-active-with-claims": active(issuer, active=False),
        "other-audience": active(issuer, aud="http://localhost:8000/mcp/other"),
        "no-audience": active(issuer, aud=None),
        "two-audiences": active(issuer, aud=[AUDIENCE, "https://evil.example"]),
        "other-issuer": active(issuer, iss="https://evil.example"),
        "expired": active(issuer, exp=int(time.time()) - 60),
        "not-yet": active(issuer, nbf=int(time.time()) + 60),
        "no-subject": active(issuer, sub=None),
        "bound-to-a-key": active(issuer, cnf={"jkt": "x"}),
        "dpop": active(issuer, token_type="DPoP"),
        "refresh": active(issuer, token_type="refresh_token"),
        "nobody-knows": {"active": False},
    }
    for token, answer in wrong.items():
        issuer.answers[token] = answer
        with pytest.raises(InvalidTokenError):
            bearer(token)
    issuer.answers["good"] = active(issuer, iss=None, exp=None, token_type=None)
    assert bearer("good").expires_at is None
    issuer.answers["too-little"] = active(issuer, scope="notes:read")
    with pytest.raises(InsufficientScopeError):
        bearer("too-little")


def test_an_answer_that_says_nothing_is_503_and_no_refusal(asked: InboundTrust, internet: FakeInternet) -> None:
    answers = [
        Answer(401, {"error": "invalid_client"}),
        Answer(200, "no JSON"),
        Answer(200, {}),
        Answer(200, {"active": "true"}),
        Answer(200, ["active"]),
        Answer(302, headers={"Location": "https://evil.example/introspect"}),
        Answer(500),
    ]
    internet[ISSUER] = lambda call: answers[0]
    while answers:
        with pytest.raises(IssuerUnavailableError):
            bearer("opaque")
        answers.pop(0)
    assert internet.calls_to("evil") == []
    assert len(internet.calls) == 7


def test_api_tokens_of_ours_are_never_shown_to_an_issuer(asked: InboundTrust, issuer: ExternalIssuer) -> None:
    for allowed in (False, True):
        asked.allow_api_tokens = allowed
        asked.save()
        with pytest.raises(InvalidTokenError):
            bearer("mcp_something")
    assert issuer.introspections == []


async def test_one_issuer_is_asked_little_at_once_and_keeps_few_waiting() -> None:
    requests, go_on, running = IssuerRequests(), threading.Event(), list[int]()

    def hanging(number: int) -> int:
        running.append(number)
        go_on.wait(10)
        return number

    waiting = [asyncio.create_task(requests.ask(ISSUER, number, partial(hanging, number))) for number in range(200)]
    await asyncio.sleep(0)
    with pytest.raises(IssuerUnavailableError):
        await requests.ask(ISSUER, "one more", partial(hanging, -1))
    assert await requests.ask("https://other.example", 1, lambda: True)
    assert len(running) <= 4
    go_on.set()
    assert await asyncio.gather(*waiting) == list(range(200))
