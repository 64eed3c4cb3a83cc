"""An authorization server of other people: signs tokens, publishes keys, answers introspections, and can fail."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import User
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from connections.models import IdentityProvider, McpServer
from gateway.models import InboundTrust
from oauthflow.protocol.secret import Secret
from tests.fakes.internet import Answer, Call, FakeInternet

ISSUER = "https://issuer.example"
AUDIENCE = "http://localhost:8000/mcp/notes"
SUBJECT = "248289761001"
CLIENT_ID, CLIENT_SECRET = "gateway:1", "a secret of the gateway"
Key = RSAKey | ECKey | OKPKey | OctKey


class ExternalIssuer:
    """At `https://issuer.example`.

    Attributes:
        keys: What it publishes, by key id; the first one signs.
        answers: What it says of opaque tokens.
        status: Of all its answers; other than 200 it is broken.
    """

    def __init__(self, internet: FakeInternet, *, issuer: str = ISSUER) -> None:
        self.issuer = issuer
        self.keys: dict[str, Key] = {"one": ECKey.generate_key("P-256")}
        self.answers: dict[str, Mapping[str, Any]] = {}
        self.status = 200
        self._internet = internet
        internet[issuer] = self

    def __call__(self, call: Call) -> Answer:
        if self.status != 200:
            return Answer(self.status, {"error": "broken"})
        if call.path == "/.well-known/oauth-authorization-server":
            return Answer(200, self._metadata())
        if call.path == "/jwks":
            keys = [{**key.as_dict(private=False), "kid": kid} for kid, key in self.keys.items()]
            return Answer(200, {"keys": keys})
        if call.path == "/introspect":
            return self._introspection(call)
        return Answer(404)

    @property
    def fetches(self) -> int:
        """How often the keys were asked for."""
        return len(self._internet.calls_to("/jwks"))

    @property
    def introspections(self) -> list[Call]:
        """Every question about a token."""
        return self._internet.calls_to("/introspect")

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a good token for `notes`; None leaves one out."""
        now = int(time.time())
        usual = {
            "iss": self.issuer, "sub": SUBJECT, "aud": AUDIENCE, "client_id": "editor", "scope": "mcp:access",
            "iat": now, "exp": now + 300, "jti": "j1",
        }  # fmt: skip
        return {name: value for name, value in {**usual, **changes}.items() if value is not None}

    def token(self, *, header: Mapping[str, Any] | None = None, key: Key | None = None, **changes: Any) -> str:
        """Return a token whose header or claims differ from a good one's; the signature is right."""
        kid = next(iter(self.keys))
        wanted = {"alg": "ES256", "typ": "at+jwt", "kid": kid, **(header or {})}
        return signed(
            {name: value for name, value in wanted.items() if value is not None},
            self.claims(**changes),
            key=key or self.keys[kid],
        )

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
        }

    def _introspection(self, call: Call) -> Answer:
        pair = base64.b64encode(b"gateway%3A1:a+secret+of+the+gateway").decode()
        if call.headers.get("Authorization") != f"Basic {pair}":
            return Answer(401, {"error": "invalid_client"})
        return Answer(200, dict(self.answers.get(call.form["token"], {"active": False})))


def signed(header: Mapping[str, Any], claims: object, *, key: Key) -> str:
    """Return a token signed by whatever the header says, `none` included."""
    text = f"{part(header)}.{part(claims)}"
    algorithm = str(header.get("alg", "ES256"))
    signature = b"" if algorithm.lower() == "none" else JWSRegistry.algorithms[algorithm].sign(text.encode(), key)
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def part(content: object) -> str:
    """Return one part of a token."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.fixture
def issuer(internet: FakeInternet) -> ExternalIssuer:
    return ExternalIssuer(internet)


@pytest.fixture
def trust(notes: McpServer, alice: User) -> InboundTrust:
    """Alice once signed in here through this issuer."""
    known_as(alice, SUBJECT)
    return InboundTrust.objects.create(server=notes, kind="issuer", issuer=ISSUER)


@pytest.fixture
def asked(notes: McpServer, alice: User) -> InboundTrust:
    """The issuer is asked about each token."""
    known_as(alice, SUBJECT)
    trust = InboundTrust(
        server=notes, kind="introspection", issuer=ISSUER, introspection_endpoint=f"{ISSUER}/introspect",
        client_id=CLIENT_ID,
    )  # fmt: skip
    trust.client_secret_sealed = Secret(CLIENT_SECRET)
    trust.full_clean()
    trust.save()
    return trust


def known_as(user: User, subject: str, *, issuer: str = ISSUER, slug: str = "company") -> SocialAccount:
    IdentityProvider.objects.get_or_create(slug=slug, defaults={"name": slug, "issuer": issuer, "client_id": "us"})
    return SocialAccount.objects.create(user=user, provider=slug, uid=subject)


def passed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the monotonic clock go on by that much."""
    ran = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: ran() + seconds)
