from __future__ import annotations

import time

import httpx2
import pytest

from examples.notes_server.introspection import (
    IntrospectionTokenVerifier,
    IntrospectionUnavailableError,
    Introspector,
)

ISSUER = "http://127.0.0.1:9000"
RESOURCE = "http://127.0.0.1:9100/mcp"


class FakeIntrospection:
    """Answers with `claims`, or with `status`, and counts."""

    def __init__(self, **claims: object) -> None:
        self.claims = _claims() | claims
        self.status = 200
        self.requests = 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests += 1
        assert request.headers["Authorization"].startswith("Basic ")
        return httpx2.Response(self.status, json=self.claims)


def _claims() -> dict[str, object]:
    expires_at = int(time.time()) + 60
    return {"active": True, "iss": ISSUER, "aud": RESOURCE, "sub": "somebody", "scope": "profile", "exp": expires_at}


def _verifier(fake: FakeIntrospection, *, cache_seconds: float = 60) -> IntrospectionTokenVerifier:
    introspector = Introspector(f"{ISSUER}/introspect", issuer=ISSUER, resource=RESOURCE, cache_seconds=cache_seconds)
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(fake), auth=("notes-server", "secret"))
    return IntrospectionTokenVerifier(introspector, http=http)


async def test_an_answer_is_asked_for_once_and_kept_without_the_token():
    fake = FakeIntrospection()
    verifier = _verifier(fake)
    for _ in range(3):
        token = await verifier.verify_token("the token")
        assert token is not None
        assert (token.subject, token.scopes, token.resource) == ("somebody", ["profile"], RESOURCE)
    assert fake.requests == 1
    assert "the token" not in repr(vars(verifier))


async def test_without_cache_time_every_request_asks():
    fake = FakeIntrospection()
    verifier = _verifier(fake, cache_seconds=0)
    assert await verifier.verify_token("token")
    fake.claims = {"active": False}
    assert await verifier.verify_token("token") is None
    assert fake.requests == 2


async def test_the_cache_stays_small():
    fake = FakeIntrospection()
    verifier = _verifier(fake)
    for number in range(1030):
        await verifier.verify_token(f"token {number}")
    assert len(verifier._answers) == 1024


async def test_our_resource_may_be_one_of_several_audiences():
    assert await _verifier(FakeIntrospection(aud=["https://other.example", RESOURCE])).verify_token("token")


@pytest.mark.parametrize(
    "claims",
    [
        {"active": False},
        {"active": "true"},
        {"aud": "https://other.example/mcp"},
        {"aud": f"{RESOURCE}/"},
        {"aud": None},
        {"iss": "http://127.0.0.1:9000/"},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"scope": ["profile"]},
    ],
)
async def test_a_token_that_is_not_for_us_grants_nothing(claims):
    assert await _verifier(FakeIntrospection(**claims)).verify_token("token") is None


async def test_no_answer_is_not_a_no():
    fake = FakeIntrospection()
    fake.status = 500
    with pytest.raises(IntrospectionUnavailableError):
        await _verifier(fake).verify_token("token")
