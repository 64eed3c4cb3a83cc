"""What a server checks of a DPoP proof, written from RFC 9449 §4.3 and not with our own code."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey

from .internet import Call


@dataclass(frozen=True)
class Proof:
    """A proof that holds: its claims, and the thumbprint of its key."""

    claims: dict[str, Any]
    jkt: str


def read_proof(call: Call) -> Proof:
    """Check the proof of a request; fails the test where it does not hold."""
    compact = call.headers["DPoP"]
    assert "," not in compact
    header = json.loads(_decoded(compact.partition(".")[0]))
    assert header["typ"] == "dpop+jwt"
    assert header["alg"] == "ES256"
    assert "d" not in header["jwk"]
    key = ECKey.import_key(header["jwk"])
    claims = json.loads(jws.deserialize_compact(compact, key, algorithms=["ES256"]).payload)
    assert claims["htm"] == call.method
    assert claims["htu"] == call.url.partition("?")[0]
    assert isinstance(claims["iat"], int)
    assert len(claims["jti"]) > 15
    scheme, _, token = call.headers.get("Authorization", "").partition(" ")
    if scheme == "DPoP":
        digest = hashlib.sha256(token.encode()).digest()
        assert claims["ath"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    else:
        assert "ath" not in claims
    return Proof(claims, key.thumbprint())


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
