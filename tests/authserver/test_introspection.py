"""`/oauth/introspect`: for resources that are registered here, about their own tokens."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from authserver.flows.end_tokens import end_families
from authserver.models import Consent, ProtectedResource, TokenFamily, hash_of_secret
from authserver.revoked import REVOKED
from oauthflow.protocol.secret import Secret
from tests.authserver.grants import (
    RESOURCE,
    SECRET,
    make_client,
    make_code,
    make_consent,
    make_family,
    mint,
    nothing_remembered,
)
from tests.authserver.token_calls import Got, ask, ask_token, code_form
from tests.requirements import requirement

__all__ = ["nothing_remembered"]
WEATHER = "https://weather.example/mcp"


@pytest.fixture
def weather(db: None) -> ProtectedResource:
    return ProtectedResource.objects.create(
        name="Weather", resource=WEATHER, scopes={"w:read": "Read"}, secret_hash=hash_of_secret(Secret(SECRET))
    )


@pytest.fixture
def consent(alice: User) -> Consent:
    return make_consent(alice, make_client(), scope="w:read", resource=WEATHER)


def introspect(resource: ProtectedResource, token: str, **form: str) -> Got:
    return ask("/oauth/introspect", {"token": token, **form}, basic=(str(resource.pk), SECRET))


@requirement("X-07", "AS13")
def test_a_resource_learns_what_its_token_says(weather: ProtectedResource, consent: Consent) -> None:
    token = mint(make_family(consent))
    got = introspect(weather, token, token_type_hint="refresh_token")
    assert got.status == 200
    assert got.members.keys() == {
        "active", "iss", "sub", "aud", "client_id", "scope", "token_type", "exp", "iat", "jti",
    }  # fmt: skip
    assert (got.members["active"], got.members["scope"], got.members["aud"]) == (True, "w:read", WEATHER)
    assert got.headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in got.headers
    form = {"token": token, "client_id": str(weather.pk), "client_secret": SECRET}
    assert ask("/oauth/introspect", form).members["active"] is True


@requirement("X-07", "AS13")
def test_an_inactive_answer_says_nothing_else(weather: ProtectedResource, consent: Consent, alice: User) -> None:
    elsewhere = mint(make_family(make_consent(alice, consent.client, resource=RESOURCE)))
    expired = mint(make_family(consent), issued_at=1_700_000_000)
    code = make_code(consent)
    refresh_token = ask_token(code_form(code)).members["refresh_token"]
    for token in (elsewhere, expired, refresh_token, code, "x", "a.b.c", "é", "x" * 9000):
        got = introspect(weather, token)
        assert (got.status, got.body) == (200, b'{"active":false}')


@requirement("AS13")
def test_a_revoked_token_is_inactive_at_once(weather: ProtectedResource, consent: Consent) -> None:
    family = make_family(consent)
    token = mint(family)
    assert introspect(weather, token).members["active"] is True
    end_families(TokenFamily.objects.all(), reason="test", now=timezone.now())
    REVOKED._checked_at = float("-inf")
    assert introspect(weather, token).members == {"active": False}


@requirement("X-07", "AS13")
@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("", SECRET),
        ("own", "wrong"),
        ("own", ""),
        (str(uuid.UUID(int=7)), SECRET),
        ("program", SECRET),
        ("no uuid", SECRET),
    ],
)
def test_who_asks_has_to_be_a_resource(weather: ProtectedResource, consent: Consent, name: str, secret: str) -> None:
    token = mint(make_family(consent))
    got = ask("/oauth/introspect", {"token": token}, basic=(str(weather.pk) if name == "own" else name, secret))
    assert (got.status, got.error, "active" in got.members) == (401, "invalid_client", False)
    assert ask("/oauth/introspect", {"token": token}).status == 401
    assert ask("/oauth/introspect", {"token": token, "client_id": str(weather.pk)}).status == 401


@pytest.mark.parametrize("change", [{"is_active": False}, {"secret_hash": ""}])
def test_a_resource_that_was_put_aside_learns_nothing(
    weather: ProtectedResource, consent: Consent, change: dict[str, Any]
) -> None:
    ProtectedResource.objects.update(**change)
    for secret in (SECRET, "0" * 64):
        got = ask("/oauth/introspect", {"token": mint(make_family(consent))}, basic=(str(weather.pk), secret))
        assert got.status == 401


@requirement("AS17")
def test_a_question_of_another_form_is_refused(weather: ProtectedResource) -> None:
    assert introspect(weather, "").error == "invalid_request"
    assert ask("/oauth/introspect?token=x", {"token": "x"}, basic=(str(weather.pk), SECRET)).error == "invalid_request"
    assert (
        ask("/oauth/introspect", b'{"token": "x"}', **{"Content-Type": "application/json"}).error == "invalid_request"
    )
