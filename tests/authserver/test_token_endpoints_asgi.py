"""The same endpoints beside Django: what they answer, and with which headers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.test import Client, override_settings
from django.utils import timezone

from authserver.endpoints.application import TokenEndpoints
from authserver.endpoints.refused_often import RefusedOften
from authserver.flows.end_tokens import end_families
from authserver.models import Consent, ProtectedResource, TokenFamily, hash_of_secret
from authserver.revoked import REVOKED
from mcp_oauth_site.answer_headers import answer_headers
from oauthflow.protocol.secret import Secret
from tests.authserver.grants import SECRET, make_client, make_code, make_consent, make_family, mint, nothing_remembered
from tests.authserver.token_calls import FORM, ask_token, basic_header, code_form, refresh_form
from tests.oauthflow.asgi_calls import Answer, Ask, ask, in_database
from tests.requirements import requirement

__all__ = ["nothing_remembered"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def consent(alice: User) -> Consent:
    return make_consent(alice, make_client())


class Site:
    """The endpoints in front of Django; `fell_through` has the address of every call that Django answered."""

    def __init__(self) -> None:
        self.fell_through: list[str] = []
        self.counted: list[tuple[str, str, int]] = []
        self.django = get_asgi_application()
        self.application = TokenEndpoints(
            otherwise=self._django,
            headers_of=partial(answer_headers, path="/oauth/token"),
            answered=lambda path, method, status, seconds: self.counted.append((path, method, status)),
        )

    async def _django(self, scope: Any, receive: Any, send: Any) -> None:
        self.fell_through.append(scope["path"])
        await self.django(scope, receive, send)

    def play(self, work: Callable[[], Awaitable[Any]]) -> Any:
        async def opened() -> Any:
            await self.application.open()
            try:
                return await work()
            finally:
                await self.application.close()

        return asyncio.run(opened())

    def ask(self, *wanted: Ask) -> list[Answer]:
        async def one_after_another() -> list[Answer]:
            return [await ask(self.application, one) for one in wanted]

        found: list[Answer] = self.play(one_after_another)
        return found


def form_ask(form: dict[str, str], path: str = "/oauth/token", **headers: str) -> Ask:
    return Ask(path, headers={"content-type": FORM, **headers}, body=urlencode(form).encode())


def test_the_answers_are_the_views_answers_with_the_sites_headers(consent: Consent) -> None:
    code, other = make_code(consent), make_code(consent)
    site = Site()
    (mine,) = site.ask(form_ask(code_form(code)))
    theirs = Client().post("/oauth/token", urlencode(code_form(other)), content_type=FORM)
    assert (mine.status, theirs.status_code) == (200, 200)
    assert {name.lower() for name in theirs.headers} == set(mine.headers)
    differing = {"x-request-id", "content-length"}
    assert {name.lower(): value for name, value in theirs.headers.items() if name.lower() not in differing} == {
        name: value for name, value in mine.headers.items() if name not in differing
    }
    assert mine.headers["content-length"] == str(len(mine.body))
    assert (site.fell_through, site.counted) == ([], [("/oauth/token", "POST", 200)])


@requirement("AS06", "AS07")
def test_many_at_once_share_a_transaction_and_have_one_winner(consent: Consent) -> None:
    code = make_code(consent)
    site = Site()

    async def crowd() -> list[Answer]:
        return list(await asyncio.gather(*(ask(site.application, form_ask(code_form(code))) for _ in range(50))))

    answers = site.play(crowd)
    assert sorted(answer.status for answer in answers) == [200] + [400] * 49
    assert TokenFamily.objects.get().ended_reason == "code_replayed"


@requirement("AS07")
def test_many_uses_of_one_refresh_token_have_one_answer_also_after_a_restart(consent: Consent) -> None:
    token = ask_token(code_form(make_code(consent))).members["refresh_token"]

    def crowd() -> set[tuple[int, bytes]]:
        site = Site()

        async def together() -> list[Answer]:
            return list(
                await asyncio.gather(*(ask(site.application, form_ask(refresh_form(token))) for _ in range(50)))
            )

        return {(answer.status, answer.body.partition(b'"scope"')[2]) for answer in site.play(together)}

    first, after_restart = crowd(), crowd()
    assert len(first) == 1
    assert first == after_restart
    assert TokenFamily.objects.get().generation == 2


@requirement("AS13", "AS14")
def test_an_introspection_is_remembered_until_something_is_revoked(consent: Consent, alice: User) -> None:
    resource = ProtectedResource.objects.create(
        name="Notes", resource="https://notes.example/mcp", secret_hash=hash_of_secret(Secret(SECRET))
    )
    family = make_family(make_consent(alice, consent.client, resource=resource.resource))
    question = form_ask(
        {"token": mint(family)}, "/oauth/introspect", authorization=basic_header(str(resource.pk), SECRET)
    )
    wrong = form_ask(
        {"token": mint(family)}, "/oauth/introspect", authorization=basic_header(str(resource.pk), "wrong")
    )
    site = Site()

    async def story() -> list[Answer]:
        answers = [await ask(site.application, question) for _ in range(2)]
        answers.append(await ask(site.application, wrong))
        await in_database(lambda: end_families(TokenFamily.objects.all(), reason="test", now=timezone.now()))
        REVOKED._checked_at = float("-inf")  # half a second later
        answers.append(await ask(site.application, question))
        return answers

    before, again, refused, after = site.play(story)
    assert before.body == again.body
    assert b'"active":true' in again.body
    assert refused.status == 401
    assert after.body == b'{"active":false}'


def test_a_resource_that_is_put_aside_is_forgotten_at_once(consent: Consent, alice: User) -> None:
    resource = ProtectedResource.objects.create(
        name="Notes", resource="https://notes.example/mcp", secret_hash=hash_of_secret(Secret(SECRET))
    )
    family = make_family(make_consent(alice, consent.client, resource=resource.resource))
    question = form_ask(
        {"token": mint(family)}, "/oauth/introspect", authorization=basic_header(str(resource.pk), SECRET)
    )
    site = Site()

    def put_aside() -> None:
        resource.is_active = False
        resource.save()

    async def story() -> list[int]:
        before = await ask(site.application, question)
        await in_database(put_aside)
        REVOKED._checked_at = float("-inf")
        return [before.status, (await ask(site.application, question)).status]

    assert site.play(story) == [200, 401]


def test_revocation_keys_preflight_and_wrong_methods_are_answered_here_too(consent: Consent) -> None:
    token = mint(make_family(consent))
    site = Site()
    revoked, keys, head, preflight, wrong, unknown = site.ask(
        form_ask({"token": token, "client_id": "program"}, "/oauth/revoke"),
        Ask("/oauth/jwks", method="GET"),
        Ask("/oauth/jwks", method="HEAD"),
        Ask("/oauth/token", method="OPTIONS", headers={"origin": "https://a.example"}),
        Ask("/oauth/token", method="GET"),
        Ask("/oauth/tokens", method="GET"),
    )
    assert (revoked.status, revoked.body) == (200, b"")
    assert TokenFamily.objects.get().ended_reason == "revoked_by_client"
    assert (keys.status, keys.headers["access-control-allow-origin"], b'"kid"' in keys.body) == (200, "*", True)
    assert (head.status, head.body) == (200, b"")
    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (204, "*")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert (unknown.status, site.fell_through) == (404, ["/oauth/tokens"])


@requirement("AS17")
def test_a_body_that_is_too_long_or_never_ends_well_is_no_failure(consent: Consent) -> None:
    site = Site()
    long, broken = site.ask(
        Ask("/oauth/token", headers={"content-type": FORM}, body=b"x=" + b"y" * 1_000_000),
        Ask("/oauth/token", headers={"content-type": FORM, "authorization": "Basic \u00ff"}, body=b"\xff\xfe%"),
    )
    assert (long.status, broken.status) == (400, 400)


def test_over_plain_http_django_sends_browsers_and_programs_to_https(consent: Consent, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    site = Site()
    site.ask(form_ask({"grant_type": "refresh_token"}))
    assert site.fell_through == ["/oauth/token"]


@override_settings(AUTHSERVER={"refusals_a_minute": 3})
def test_an_address_that_is_refused_again_and_again_has_to_wait_and_others_do_not(consent: Consent) -> None:
    code = make_code(consent)
    wrong = form_ask({"grant_type": "refresh_token", "client_id": "nobody", "refresh_token": "x"})
    answers = Site().ask(*[wrong] * 3, wrong, form_ask(code_form(code)), Ask("/oauth/jwks", method="GET"))
    assert [answer.status for answer in answers] == [401, 401, 401, 429, 429, 200]
    assert 1 <= int(answers[3].headers["retry-after"]) <= 60


def test_what_is_granted_counts_for_nothing_and_the_memory_of_addresses_is_bounded() -> None:
    counted = RefusedOften(limit=2)
    for number in range(10_050):
        counted.note(f"198.51.{number}", now=30.0)
    assert len(counted._refused) <= 10_001
    assert counted.wait_seconds("203.0.113.1", now=30.0) == 0
    counted.note("203.0.113.1", now=30.0)
    assert counted.wait_seconds("198.51.1", now=30.0) == 0
    counted.note("198.51.1", now=31.0)
    assert counted.wait_seconds("198.51.1", now=31.0) == 29
    assert counted.wait_seconds("198.51.1", now=61.0) == 0
