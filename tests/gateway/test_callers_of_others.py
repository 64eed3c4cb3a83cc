"""Callers with tokens of another issuer: its keys, its answers, its failures, and whom its tokens stand for."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from joserfc.jwk import ECKey, RSAKey

from connections.models import McpServer
from gateway.callers import issuer_keys
from gateway.callers.caller import Caller
from gateway.callers.claims import ExternalToken
from gateway.callers.external_tokens import EXTERNAL_TOKENS
from gateway.callers.issuer_keys import KEYS
from gateway.callers.issuer_requests import REQUESTS, IssuerUnavailableError
from gateway.callers.signed_token import read_signed_token
from gateway.callers.trusts import Trust, trust_of
from gateway.endpoint.challenges import InsufficientScopeError, InvalidTokenError
from gateway.endpoint.metadata import metadata_answer
from gateway.models import InboundTrust
from gateway.targets.find import find_server
from tests.authserver.grants import make_client, make_consent, make_family, mint, notes, nothing_remembered
from tests.fakes.internet import Answer, Call, FakeInternet
from tests.requirements import requirement

from .calling import bearer, identified, in_loop, is_still_good, nothing_known
from .external_issuer import AUDIENCE, ISSUER, SUBJECT, ExternalIssuer, asked, issuer, passed, trust

__all__ = ["asked", "issuer", "notes", "nothing_known", "nothing_remembered", "trust"]
pytestmark = pytest.mark.django_db(transaction=True)


# ---- Keys


@requirement("T-03", "X-06")
def test_a_token_of_the_trusted_issuer_is_verified_by_the_keys_that_its_metadata_name(
    trust: InboundTrust, issuer: ExternalIssuer, alice: User
) -> None:
    caller = bearer(issuer.token())
    assert (caller.user_id, caller.client_id) == (alice.pk, "editor")
    assert caller.subject == f"external:{ISSUER}#{SUBJECT}"
    assert is_still_good(caller)
    assert issuer.fetches == 1


@requirement("G-24")
def test_an_answer_may_outlive_a_token_and_nothing_else_may(
    trust: InboundTrust, issuer: ExternalIssuer, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, at, ran = bearer(issuer.token(exp=int(time.time()) + 60)), time.time(), time.time
    monkeypatch.setattr(time, "time", lambda: ran() + 71)
    assert not is_still_good(caller)
    assert is_still_good(caller, at=at)
    EXTERNAL_TOKENS.forget()  # so that it is verified once more
    assert is_still_good(caller, at=at)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert not is_still_good(caller, at=at)


def test_rules_are_read_once_until_they_change(trust: InboundTrust) -> None:
    async def rules() -> Trust:
        server = await find_server("notes")
        assert server is not None
        return await trust_of(server)

    first = in_loop(rules)
    assert in_loop(rules) is first
    trust.save()
    assert in_loop(rules) is not first


@requirement("T-03")
def test_a_server_that_gets_another_name_takes_no_tokens_for_the_old_one(trust: InboundTrust) -> None:
    async def audience(slug: str) -> str:
        server = await find_server(slug)
        assert server is not None
        return (await trust_of(server)).audience

    InboundTrust.objects.update(audience="")
    assert in_loop(partial(audience, "notes")).endswith("/mcp/notes")
    McpServer.objects.filter(slug="notes").update(slug="memos")
    assert in_loop(partial(audience, "memos")).endswith("/mcp/memos")


@requirement("D-02")
def test_the_metadata_of_the_server_name_that_issuer(trust: InboundTrust, issuer: ExternalIssuer) -> None:
    async def published() -> Any:
        server = await find_server("notes")
        assert server is not None
        return json.loads((await metadata_answer(server, method="GET")).body)

    trust.scope = "notes:list notes:read"
    trust.save()
    document = in_loop(published)
    assert document["authorization_servers"] == [ISSUER]
    assert document["scopes_supported"] == ["notes:list", "notes:read"]
    trust.delete()
    document = in_loop(published)
    assert document["authorization_servers"] == ["http://localhost:8000"]
    assert document["scopes_supported"] == ["mcp:access"]


@requirement("T-05")
def test_tokens_of_ours_are_not_taken_where_another_issuer_is_trusted(
    trust: InboundTrust, issuer: ExternalIssuer, alice: User
) -> None:
    with pytest.raises(InvalidTokenError):
        bearer(mint(make_family(make_consent(alice, make_client()))))
    trust.kind = "own"
    trust.save()
    with pytest.raises(InvalidTokenError):
        bearer(issuer.token())


def test_a_verified_token_is_verified_once_until_keys_or_rules_change(
    trust: InboundTrust, issuer: ExternalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issuer.token()
    verified: list[str] = []

    def noted(token: str, **said: Any) -> ExternalToken:
        verified.append(token)
        return read_signed_token(token, **said)

    monkeypatch.setattr("gateway.callers.external_tokens.read_signed_token", noted)
    for _ in range(3):
        assert bearer(token).client_id == "editor"
    assert len(verified) == 1
    trust.scope = "notes:write"
    trust.save()
    with pytest.raises(InsufficientScopeError):
        bearer(token)
    assert len(verified) == 2


def test_a_key_that_was_taken_back_verifies_nothing_more_once_the_keys_are_asked_for_again(
    trust: InboundTrust, issuer: ExternalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issuer.token()
    assert bearer(token).client_id == "editor"
    issuer.keys = {"two": ECKey.generate_key("P-256")}
    assert bearer(token).client_id == "editor"
    passed(monkeypatch, issuer_keys.FRESH_SECONDS)
    with pytest.raises(InvalidTokenError):
        bearer(token)
    assert bearer(issuer.token()).client_id == "editor"


def test_a_new_key_is_looked_up_when_it_first_signs_but_made_up_ones_are_not_looked_up_each_time(
    trust: InboundTrust, issuer: ExternalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bearer(issuer.token())
    issuer.keys = {"two": ECKey.generate_key("P-256"), **issuer.keys}
    for number in range(20):
        with pytest.raises(InvalidTokenError):
            bearer(issuer.token(header={"kid": f"made-up-{number}"}))
    assert issuer.fetches == 1
    passed(monkeypatch, issuer_keys.UNKNOWN_KEY_SECONDS)
    assert bearer(issuer.token()).client_id == "editor"
    for number in range(20):
        with pytest.raises(InvalidTokenError):
            bearer(issuer.token(header={"kid": f"../{number}"}))
    assert issuer.fetches == 2


def test_without_a_key_id_there_has_to_be_no_choice(trust: InboundTrust, issuer: ExternalIssuer) -> None:
    assert bearer(issuer.token(header={"kid": None})).client_id == "editor"
    KEYS.forget()
    issuer.keys["two"] = ECKey.generate_key("P-256")
    with pytest.raises(InvalidTokenError):
        bearer(issuer.token(header={"kid": None}))


NOT_FOR_US: list[Any] = [
    {"kty": "oct", "k": "c2VjcmV0"},
    {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
    {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    {"kty": "unheard-of"},
    "no key at all",
    {**RSAKey.generate_key(2048).as_dict(private=False), "n": "uw" * 85 + "w"},  # 1,024 bits
    {**ECKey.generate_key("P-256").as_dict(private=False), "use": "enc"},
]


def test_a_key_of_a_kind_that_is_not_for_us_is_passed_over(
    trust: InboundTrust, issuer: ExternalIssuer, internet: FakeInternet
) -> None:
    good = {**issuer.keys["one"].as_dict(private=False), "kid": "one"}
    listed: list[Any] = [*NOT_FOR_US, good]

    def with_more(call: Call) -> Answer:
        return Answer(200, {"keys": listed}) if call.path == "/jwks" else issuer(call)

    internet[ISSUER] = with_more
    assert bearer(issuer.token()).client_id == "editor"
    for published in NOT_FOR_US:
        listed = [published]
        KEYS.forget()
        REQUESTS.forget()
        with pytest.raises(IssuerUnavailableError):
            bearer(issuer.token())


# ---- The issuer fails


def test_where_the_issuer_cannot_be_asked_it_is_503_and_soon_good_again(
    trust: InboundTrust, issuer: ExternalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.status = 500
    for _ in range(5):
        with pytest.raises(IssuerUnavailableError) as refused:
            bearer(issuer.token())
        assert refused.value.status == 503
        assert (b"retry-after", b"5") in refused.value.headers
    assert len(issuer._internet.calls) <= 2  # its two addresses of metadata, once
    issuer.status = 200
    passed(monkeypatch, 3)
    assert bearer(issuer.token()).client_id == "editor"


def test_known_keys_outlast_a_failing_issuer_for_an_hour(
    trust: InboundTrust, issuer: ExternalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bearer(issuer.token())
    issuer.status = 503
    passed(monkeypatch, issuer_keys.FRESH_SECONDS)
    assert bearer(issuer.token()).client_id == "editor"
    passed(monkeypatch, issuer_keys.KEPT_SECONDS)
    with pytest.raises(IssuerUnavailableError):
        bearer(issuer.token())


def test_an_issuer_whose_metadata_are_of_another_one_is_not_believed(
    trust: InboundTrust, internet: FakeInternet
) -> None:
    other = ExternalIssuer(internet, issuer="https://evil.example")
    internet[ISSUER] = other
    with pytest.raises(IssuerUnavailableError):
        bearer(other.token(iss=ISSUER))


def test_only_the_configured_addresses_are_asked_and_no_private_one(
    trust: InboundTrust, issuer: ExternalIssuer, internet: FakeInternet
) -> None:
    trust.jwks_uri = "https://127.0.0.1/jwks"
    trust.save()
    with pytest.raises(IssuerUnavailableError):
        bearer(issuer.token(header={"kid": "x"}, iss="https://evil.example"))
    assert internet.calls == []


def test_many_who_ask_at_once_cause_one_fetch_and_a_slow_issuer_holds_up_nobody_else(
    trust: InboundTrust, issuer: ExternalIssuer, internet: FakeInternet, alice: User
) -> None:
    other = McpServer.objects.create(name="O", slug="other", url="https://o.example/mcp", gateway_enabled=True)
    ours = mint(make_family(make_consent(alice, make_client(), resource=AUDIENCE.replace("notes", other.slug))))
    let_go = threading.Event()

    def slow(call: Call) -> Answer:
        assert let_go.wait(20)
        return issuer(call)

    internet[ISSUER] = slow

    async def crowd() -> list[Caller]:
        waiting = [asyncio.ensure_future(identified(f"Bearer {issuer.token(jti=str(n))}")) for n in range(50)]
        for _ in range(3):
            assert (await identified(f"Bearer {ours}", slug="other")).client_id == "program"
        assert not any(one.done() for one in waiting)
        let_go.set()
        return await asyncio.gather(*waiting)

    assert len(in_loop(crowd)) == 50
    assert issuer.fetches == 1
