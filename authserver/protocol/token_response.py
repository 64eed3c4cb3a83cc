"""The answer of the token endpoint, and how one refresh's answer is kept for a client that asks again."""

from __future__ import annotations

import hmac
import json
import os
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES: Final = 12
_LABEL: Final = b"mcp-oauth-site successor of a refresh token at "


@dataclass(frozen=True, slots=True, repr=False)
class TokenResponse:
    """What a client gets. `expires_at` is in Unix seconds; `refresh_token` is empty where there is none."""

    access_token: str
    expires_at: int
    scope: str
    refresh_token: str = ""

    def body(self, *, now: float) -> dict[str, object]:
        """Return the members of the JSON answer. RFC 6749 §5.1; `scope` always, so that nobody has to guess."""
        members: dict[str, object] = {
            "access_token": self.access_token,
            "token_type": "Bearer",
            "expires_in": max(0, self.expires_at - int(now)),
            "scope": self.scope,
        }
        return {**members, "refresh_token": self.refresh_token} if self.refresh_token else members


def seal_response(response: TokenResponse, *, presented: str, family_id: UUID, issuer: str) -> str:
    """Seal an answer under the refresh token that was presented for it: without that token nobody opens it.

    Args:
        response: The answer.
        presented: The refresh token, which holds 256 random bits and is kept nowhere.
        family_id: Bound to it, so that it opens in no other family.
        issuer: Bound to it, as to all our keys. K05.
    """
    content = [response.access_token, response.expires_at, response.scope, response.refresh_token]
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(_key(presented, issuer)).encrypt(nonce, json.dumps(content).encode(), family_id.bytes)
    return b64encode(nonce + sealed).decode("ascii")


def open_response(sealed: str, *, presented: str, family_id: UUID, issuer: str) -> TokenResponse | None:
    """Open what `seal_response` made; None if it does not open."""
    raw = b64decode(sealed)
    try:
        content = AESGCM(_key(presented, issuer)).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], family_id.bytes)
    except (InvalidTag, ValueError):
        return None
    return TokenResponse(*json.loads(content))


def _key(presented: str, issuer: str) -> bytes:
    return hmac.digest(presented.encode(), _LABEL + issuer.encode(), "sha256")
