"""A client whose keys lie at an address takes a new key: it is looked up when the client first signs with it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from joserfc import jwt
from joserfc.jwk import ECKey

from authserver.models import McpClient
from tests.fakes.internet import Answer, Call, FakeInternet
from tests.requirements import requirement

from .grants import make_client, make_code, make_consent, nothing_remembered
from .test_token_endpoints_asgi import Site, form_ask
from .token_calls import Got, ask, ask_token, code_form

__all__ = ["nothing_remembered"]
_OLD, _NEW = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
_KIND = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Published:
    """The client's key set; `fetched` counts."""

    def __init__(self) -> None:
        self.fetched = 0
        self.answer = Answer(200, {"keys": [_public(_OLD, "old"), _public(_NEW, "new")]})

    def __call__(self, call: Call) -> Answer:
        self.fetched += 1
        return self.answer


@pytest.fixture
def published(internet: FakeInternet) -> Published:
    published = Published()
    internet["https://keys.example"] = published
    return published


@pytest.fixture
def publishing(alice: User) -> McpClient:
    return make_client(
        method="private_key_jwt", jwks={"keys": [_public(_OLD, "old")]}, jwks_uri="https://keys.example/jwks",
        kind=McpClient.Kind.DYNAMIC, last_used_at=timezone.now(),
    )  # fmt: skip


def _public(key: ECKey, kid: str) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": kid}


def _proof(key: ECKey, kid: str | None, jti: str = "1") -> dict[str, str]:
    claims = {"iss": "program", "sub": "program", "aud": "http://localhost:8000", "exp": int(time.time()) + 60}
    header = {"alg": "ES256", **({"kid": kid} if kid else {})}
    assertion = jwt.encode(header, {**claims, "jti": jti}, key)
    return {"client_assertion_type": _KIND, "client_assertion": assertion}


def _redeem(client: McpClient, user: User, proof: dict[str, str]) -> Got:
    return ask_token(code_form(make_code(make_consent(user, client)), client_id="", **proof))


@requirement("R-07")
def test_a_key_that_is_new_is_looked_up_and_lets_the_client_in(
    published: Published, publishing: McpClient, alice: User
) -> None:
    assert _redeem(publishing, alice, _proof(_OLD, "old")).status == 200
    assert published.fetched == 0
    assert _redeem(publishing, alice, _proof(_NEW, "new", "2")).status == 200
    assert ask("/oauth/revoke", {"token": "x", **_proof(_NEW, "new", "3")}).status == 200
    assert published.fetched == 1


@requirement("R-07", "AS04")
def test_whoever_invents_keys_causes_one_request_in_five_minutes(
    published: Published, publishing: McpClient, alice: User
) -> None:
    for number in range(5):
        assert _redeem(publishing, alice, _proof(_NEW, f"invented-{number}", str(number))).error == "invalid_client"
    assert published.fetched == 1


@requirement("AS04")
@pytest.mark.parametrize(
    "change",
    [
        {"last_used_at": None},
        {"blocked_at": timezone.now()},
        {"expires_at": timezone.now() - timedelta(days=1)},
        {"jwks_uri": ""},
        {"token_endpoint_auth_method": "none"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_for_clients_that_nobody_allowed_or_that_are_over_nothing_is_fetched(
    published: Published, publishing: McpClient, alice: User, change: dict[str, Any]
) -> None:
    McpClient.objects.update(**change)
    assert _redeem(publishing, alice, _proof(_NEW, "new")).error == "invalid_client"
    assert published.fetched == 0


def test_without_a_key_id_nothing_is_fetched(published: Published, publishing: McpClient, alice: User) -> None:
    assert _redeem(publishing, alice, _proof(_NEW, None)).error == "invalid_client"
    assert published.fetched == 0


def test_keys_that_cannot_be_read_change_nothing(published: Published, publishing: McpClient, alice: User) -> None:
    published.answer = Answer(500, {})
    assert _redeem(publishing, alice, _proof(_NEW, "new")).error == "invalid_client"
    assert _redeem(publishing, alice, _proof(_OLD, "old", "2")).status == 200


def test_a_client_that_an_administrator_entered_needs_no_visit_of_anybody(published: Published, alice: User) -> None:
    client = make_client(method="private_key_jwt", jwks_uri="https://keys.example/jwks")
    assert _redeem(client, alice, _proof(_OLD, "old")).status == 200


@pytest.mark.django_db(transaction=True)
def test_beside_django_it_is_the_same(published: Published, publishing: McpClient, alice: User) -> None:
    code = make_code(make_consent(alice, publishing))
    (answer,) = Site().ask(form_ask(code_form(code, client_id="", **_proof(_NEW, "new"))))
    assert answer.status == 200
    assert published.fetched == 1
