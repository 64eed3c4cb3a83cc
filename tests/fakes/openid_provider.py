"""An OpenID provider in a few lines, with a switch for each way in which one may mislead us."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey

from .internet import Answer, Call


@dataclass
class FakeOpenIdProvider:
    """Speaks discovery, token and userinfo; everything it was asked for is in `token_requests`."""

    issuer: str = "https://id.example"
    client_id: str = "site"
    subject: str = "subject-1"
    claims: dict[str, Any] = field(default_factory=dict)
    names_issuer: str = ""
    status: int = 200
    redirects_to: str = ""
    token_requests: list[dict[str, str]] = field(default_factory=list)

    def __call__(self, call: Call) -> Answer:
        if self.redirects_to:
            return Answer(307, headers={"Location": self.redirects_to})
        if self.status != 200:
            return Answer(self.status, body={"error": "server_error", "error_description": "database password"})
        if call.path == "/token":
            self.token_requests.append(call.form)
            token = {"access_token": "opaque", "token_type": "Bearer", "id_token": self._id_token()}
            return Answer(body=token, headers={"Content-Type": "application/json"})
        if call.path == "/userinfo":
            return Answer(body={"sub": self.subject, **self.claims}, headers={"Content-Type": "application/json"})
        return Answer(body=self._metadata(), headers={"Content-Type": "application/json"})

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.names_issuer or self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }

    def _id_token(self) -> str:
        now = int(time.time())
        claims = {"iss": self.names_issuer or self.issuer, "aud": self.client_id, "sub": self.subject}
        key = OctKey.import_key("x" * 32)
        return jwt.encode({"alg": "HS256"}, {**claims, "iat": now, "exp": now + 300, **self.claims}, key)


def query_of(location: str) -> dict[str, str]:
    """The parameters that a browser takes along."""
    return dict(parse_qsl(urlsplit(location).query))
