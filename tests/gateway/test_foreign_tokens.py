"""Whatever comes without a good token for exactly this server is refused by the whole gateway, and goes no further."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from authserver import tokens
from authserver.flows.end_tokens import end_families
from authserver.models import TokenFamily
from authserver.protocol.opaque import new_marking_key
from authserver.revoked import REVOKED
from connections.api_tokens import issue_api_token
from connections.models import McpServer
from gateway.application import Gateway
from gateway.models import InboundTrust
from mcp_oauth_site.answer_headers import answer_headers
from tests.authserver.grants import make_client, make_consent, make_family, mint, notes, nothing_remembered
from tests.authserver.test_tokens import FORGED
from tests.fakes.internet import FakeInternet
from tests.oauthflow.asgi_calls import in_database
from tests.requirements import requirement

from .calling import nothing_known
from .external_issuer import ISSUER, SUBJECT, ExternalIssuer, known_as
from .front import LEGACY, MODERN, Client, Received, legacy_call, modern_call
from .test_signed_tokens import WRONG
from .upstream import serving

__all__ = ["notes", "nothing_known", "nothing_remembered"]
pytestmark = pytest.mark.django_db(transaction=True)
Sent = Mapping[str, str | None]
SentCall = tuple[str, Sent, bytes] | tuple[str, Sent, bytes, bytes]


def play(settings: Settings, calls: Iterable[SentCall]) -> tuple[list[Received], int]:
    """Send requests to `notes`, each with a method, headers and a body; return the answers, and how many went on."""

    async def played() -> tuple[list[Received], int]:
        settings.EGRESS_ALLOW = ["127.0.0.1"]
        gateway = Gateway(headers_of=partial(answer_headers, path="/mcp/"))
        async with serving() as upstream:
            notes = McpServer.objects.filter(slug="notes")
            await in_database(partial(notes.update, url=upstream.url, auth_type="none"))
            await gateway.open()
            try:
                return [await _ask(gateway, *call) for call in calls], len(upstream.seen)
            finally:
                await gateway.close()

    return asyncio.run(played())


def with_token(token: str) -> tuple[str, Sent, bytes]:
    return "POST", {**MODERN, "authorization": f"Bearer {token}"}, modern_call()


async def _ask(gateway: Gateway, method: str, headers: Sent, body: bytes, query: bytes = b"") -> Received:
    sent = {
        "host": "testserver", "accept": "application/json, text/event-stream",
        **({"content-type": "application/json", "content-length": str(len(body))} if body else {}),
        **{name.lower(): value for name, value in headers.items()},
    }  # fmt: skip
    raw = [(name.encode(), value.encode("utf-8")) for name, value in sent.items() if value is not None]
    scope: dict[str, Any] = {
        "type": "http", "method": method, "path": "/mcp/notes", "raw_path": b"/mcp/notes", "query_string": query,
        "root_path": "", "scheme": "http", "headers": raw, "http_version": "1.1",
    }  # fmt: skip
    return await Client(gateway, scope, body).end()


def _assert_refused(answer: Received, name: str) -> None:
    challenge = answer.header("www-authenticate") or ""
    assert answer.status in (400, 401), name
    assert f'error="{"invalid_token" if answer.status == 401 else "invalid_request"}"' in challenge, name
    assert 'scope="mcp:access"' in challenge, name
    named = re.findall(r'resource_metadata="([^"]*)"', challenge)
    assert named == ["http://localhost:8000/.well-known/oauth-protected-resource/mcp/notes"], name


@pytest.fixture
def family(alice: User, notes: McpServer) -> TokenFamily:
    return make_family(make_consent(alice, make_client()))


@requirement("G-03", "T-07")
def test_every_request_of_either_era_needs_a_token(settings: Settings, notes: McpServer) -> None:
    calls: list[tuple[str, Sent, bytes]] = [
        ("POST", MODERN, modern_call()),
        ("POST", {}, legacy_call(method="initialize")),
        ("POST", LEGACY, legacy_call()),
        ("GET", {**LEGACY, "mcp-session-id": "s1"}, b""),
        ("DELETE", {**LEGACY, "mcp-session-id": "s1"}, b""),
    ]
    answers, forwarded = play(settings, calls)
    assert [answer.status for answer in answers] == [401] * 5
    assert forwarded == 0
    assert all("error=" not in (answer.header("www-authenticate") or "") for answer in answers)


@requirement("G02", "T-03", "T-04", "T-05", "X-06")
def test_no_forged_or_foreign_token_gets_anywhere_where_ours_are_taken(
    settings: Settings, family: TokenFamily, alice: User, internet: FakeInternet
) -> None:
    header, claims = (tokens._json_object(part) for part in mint(family).split(".")[:2])
    wrong = {name: forge(dict(header), dict(claims)) for name, forge in FORGED.items()}
    ended, gone = (make_family(make_consent(person, make_client(name))) for person, name in _people(alice))
    wrong |= {
        "for another server": mint(family, audience="http://localhost:8000/mcp/note"),
        "for our interface": mint(family, audience="http://localhost:8000/api/v1"),
        "revoked": mint(ended),
        "of somebody deactivated": mint(gone),
        "a refresh token": new_marking_key(),
        "an API token": issue_api_token(alice, scopes=["tools:call"], name="s", now=timezone.now()).token.reveal(),
        "of another issuer": ExternalIssuer(internet).token(),
    }
    end_families(TokenFamily.objects.filter(pk=ended.pk), reason="test", now=timezone.now())
    User.objects.filter(pk=gone.user_id).update(is_active=False)
    REVOKED.forget()
    answers, forwarded = play(settings, map(with_token, wrong.values()))
    for name, answer in zip(wrong, answers, strict=True):
        _assert_refused(answer, name)
    assert (len(answers) >= 60, forwarded) == (True, 0)
    good, forwarded = play(settings, [with_token(mint(family))])
    assert (good[0].status, forwarded) == (200, 1)


def _people(alice: User) -> list[tuple[User, str]]:
    return [(alice, "ended"), (User.objects.create_user("gone"), "gone")]


@requirement("G02", "T-03", "T-04", "T-05", "X-06")
def test_no_forged_or_foreign_token_gets_anywhere_where_another_issuer_is_trusted(
    settings: Settings, notes: McpServer, family: TokenFamily, alice: User, internet: FakeInternet
) -> None:
    issuer = ExternalIssuer(internet)
    known_as(alice, SUBJECT)
    InboundTrust.objects.create(server=notes, kind="issuer", issuer=ISSUER)
    wrong = {name: forge() for name, forge in WRONG.items()}
    wrong |= {
        "ours": mint(family),
        "of an issuer with our issuer's name but other keys": ExternalIssuer(FakeInternet()).token(),
        "with a key id of nobody": issuer.token(header={"kid": "nobody"}),
        "of nobody here": issuer.token(sub="nobody"),
    }
    answers, forwarded = play(settings, map(with_token, wrong.values()))
    for name, answer in zip(wrong, answers, strict=True):
        _assert_refused(answer, name)
    assert (len(answers) >= 60, forwarded) == (True, 0)
    assert {call.url for call in internet.calls} == {
        f"{ISSUER}/.well-known/oauth-authorization-server", f"{ISSUER}/jwks",
    }  # fmt: skip
    good, forwarded = play(settings, [with_token(issuer.token())])
    assert (good[0].status, forwarded) == (200, 1)


@requirement("S-01", "S-05", "S-06")
def test_too_little_scope_is_403_with_all_that_is_needed(
    settings: Settings, notes: McpServer, family: TokenFamily, alice: User, internet: FakeInternet
) -> None:
    answers, forwarded = play(settings, [with_token(mint(family, scope="notes:read"))])
    known_as(alice, SUBJECT)
    InboundTrust.objects.create(server=notes, kind="issuer", issuer=ISSUER, scope="notes:list notes:read")
    more, also = play(settings, [with_token(ExternalIssuer(internet).token(scope="notes:read"))])
    challenges = [answer.header("www-authenticate") or "" for answer in (*answers, *more)]
    assert [answer.status for answer in (*answers, *more)] == [403, 403]
    assert all('error="insufficient_scope"' in challenge for challenge in challenges)
    assert 'scope="mcp:access"' in challenges[0]
    assert 'scope="notes:list notes:read"' in challenges[1]
    assert forwarded == also == 0


@requirement("T-01", "T-07")
def test_a_token_in_the_address_is_refused_beside_a_good_one_too(settings: Settings, family: TokenFamily) -> None:
    token = mint(family)
    calls: list[SentCall] = [
        (*with_token(token), b"access_token=" + token.encode()),
        ("POST", MODERN, modern_call(), b"a=b&access_token=" + token.encode()),
    ]
    answers, forwarded = play(settings, calls)
    assert ([answer.status for answer in answers], forwarded) == ([400, 400], 0)
    assert all('error="invalid_request"' in (answer.header("www-authenticate") or "") for answer in answers)
    assert token not in str(answers)


@requirement("T-03")
def test_where_an_issuer_cannot_be_asked_the_answer_is_503_and_no_challenge(
    settings: Settings, notes: McpServer, internet: FakeInternet
) -> None:
    issuer = ExternalIssuer(internet)
    issuer.status = 500
    InboundTrust.objects.create(server=notes, kind="issuer", issuer=ISSUER)
    answers, forwarded = play(settings, [with_token(issuer.token())])
    assert (answers[0].status, answers[0].header("retry-after"), forwarded) == (503, "5", 0)
    assert answers[0].header("www-authenticate") is None
    assert answers[0].json()["error"]["code"] == -32000
