"""The SDK's token verifier, answered by the authorization server's introspection endpoint. RFC 7662."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2
from mcp.server.auth.provider import AccessToken

_CACHED_ANSWERS = 1024


class IntrospectionUnavailableError(Exception):
    """The authorization server could not be asked: the token may be good, so this is no reason for a 401."""


@dataclass(frozen=True, slots=True)
class Introspector:
    """Where to ask. The issuer and our own resource URL are what the answers have to name."""

    endpoint: str
    issuer: str
    resource: str
    cache_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class _Answer:
    claims: Mapping[str, object]
    usable_until: float  # monotonic clock


class IntrospectionTokenVerifier:
    """Verifies bearer tokens for `MCPServer(token_verifier=…)`.

    An answer is reused for `cache_seconds`: that long a revoked token may still work, and that much less is asked.
    The cache is keyed by SHA-256, so that a dump of this process's cache opens nothing.
    """

    def __init__(self, introspector: Introspector, *, http: httpx2.AsyncClient) -> None:
        self._introspector = introspector
        self._http = http
        self._answers: dict[bytes, _Answer] = {}

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what the token grants here, or None where it grants nothing here."""
        key = hashlib.sha256(token.encode()).digest()
        answer = self._answers.get(key)
        if answer is None or answer.usable_until <= time.monotonic():
            claims = await self._ask(token)
            answer = _Answer(claims, time.monotonic() + self._introspector.cache_seconds)
            self._remember(key, answer)
        return self._judged(answer.claims, token=token)

    async def _ask(self, token: str) -> Mapping[str, object]:
        form = {"token": token, "token_type_hint": "access_token"}
        try:
            response = await self._http.post(self._introspector.endpoint, data=form)
            claims = response.raise_for_status().json()
        except (httpx2.HTTPError, ValueError) as error:
            raise IntrospectionUnavailableError(type(error).__name__) from error
        return claims if isinstance(claims, dict) else {}

    def _judged(self, claims: Mapping[str, object], *, token: str) -> AccessToken | None:
        """Accept active tokens of our issuer that were made for us: any other token is somebody else's. RFC 8707 §2."""
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        expires_at, subject, scope = claims.get("exp"), claims.get("sub"), claims.get("scope", "")
        if (
            claims.get("active") is not True
            or claims.get("iss") != self._introspector.issuer
            or self._introspector.resource not in audiences
            or not isinstance(expires_at, int)
            or expires_at <= time.time()
            or not isinstance(subject, str)
            or not isinstance(scope, str)
        ):
            return None
        return AccessToken(
            token=token,
            client_id=str(claims.get("client_id", "")),
            scopes=scope.split(),
            expires_at=expires_at,
            resource=self._introspector.resource,
            subject=subject,
            claims={"iss": self._introspector.issuer},
        )

    def _remember(self, key: bytes, answer: _Answer) -> None:
        self._answers.pop(key, None)
        if len(self._answers) >= _CACHED_ANSWERS:
            self._answers.pop(next(iter(self._answers)))
        self._answers[key] = answer
