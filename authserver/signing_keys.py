"""The keys of our access tokens: derived from SIGNING_KEYS and the issuer.

Derived, so that a copy of the keys at another address signs nothing that is good here (K05), and so that what the same
keys sign elsewhere (our own client assertions) can never be taken for an access token. The first key signs and all
verify: a new key stands last in the list until everybody has fetched it, then first, and an old one leaves when the
last of its tokens has expired.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from django.conf import settings
from joserfc.jwk import ECKey

from .conf import issuer

ALGORITHM: Final = "ES256"
_LABEL: Final = b"mcp-oauth-site access tokens of "
# RFC 7518 §6.2.1: the order of P-256, by which a random number of 512 bits becomes a private key without bias.
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def signing_key() -> tuple[str, ECKey]:
    """The key that signs now, with its `kid`."""
    return next(iter(verification_keys().items()))


def verification_keys() -> Mapping[str, ECKey]:
    """Every key whose tokens are good, by its `kid`; the first one signs."""
    return _derived(tuple(str(key["d"]) for key in settings.SIGNING_KEYS), issuer())


def public_jwks() -> dict[str, list[dict[str, Any]]]:
    """The document at `jwks_uri`. RFC 7517 §5."""
    return {
        "keys": [
            {**key.as_dict(private=False), "kid": kid, "alg": ALGORITHM, "use": "sig"}
            for kid, key in verification_keys().items()
        ]
    }


@lru_cache(maxsize=8)
def _derived(secrets: tuple[str, ...], of_issuer: str) -> Mapping[str, ECKey]:
    keys = [_derive(secret, of_issuer) for secret in secrets]
    return {key.thumbprint(): key for key in keys}


def _derive(secret: str, of_issuer: str) -> ECKey:
    raw = urlsafe_b64decode(secret + "=" * (-len(secret) % 4))
    wide = int.from_bytes(hmac.digest(raw, _LABEL + of_issuer.encode(), hashlib.sha512))
    private = ec.derive_private_key(wide % (_ORDER - 1) + 1, ec.SECP256R1())
    return ECKey.import_key(private)
