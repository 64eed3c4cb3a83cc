"""A private P-256 key: of the site, of one client, or of one connection (RFC 9449). RFC 7517, RFC 7518 §6.2."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from .errors import NotConfiguredError
from .secret import Secret

SIGNING_ALGORITHM = "ES256"
_LONGEST_KEY = 4000


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private P-256 key as a JWK with `kid`; does not print itself.

    Raises ValueError where the JWK is anything else; the message never has a member's value.
    """

    jwk: Mapping[str, str] = field(repr=False)

    def __post_init__(self) -> None:
        missing = [name for name in ("kid", "x", "y", "d") if not self.jwk.get(name)]
        if missing:
            raise ValueError(f"a signing key lacks {', '.join(missing)}")
        if self.jwk.get("kty") != "EC" or self.jwk.get("crv") != "P-256":
            raise ValueError("a signing key is not an EC key on P-256")
        try:
            # joserfc looks at the numbers only when it is asked for the key.
            _ = ECKey.import_key(dict(self.jwk)).private_key
        except ValueError:
            raise ValueError("a signing key's numbers are not one key") from None

    @property
    def kid(self) -> str:
        """The key id, which the public document repeats."""
        return self.jwk["kid"]

    @property
    def public_jwk(self) -> dict[str, str | list[str]]:
        """The public members alone, named one by one, so that no private one can slip through."""
        return {name: self.jwk[name] for name in ("kty", "crv", "x", "y")}

    @property
    def thumbprint(self) -> str:
        """SHA-256 over the public members, in base64url. RFC 7638."""
        return ECKey.import_key(self.public_jwk).thumbprint()

    def as_secret(self) -> Secret:
        """Return it as text that `read_signing_key` reads."""
        return Secret(json.dumps(dict(self.jwk), separators=(",", ":")))

    @staticmethod
    def new() -> SigningKey:
        """Make a fresh key; its `kid` is its thumbprint."""
        return _with_kid(ECKey.generate_key("P-256", private=True))


def read_signing_key(text: Secret) -> SigningKey:
    """Read a private key as people hand it over: PEM (PKCS #8 or SEC 1) or a JWK.

    Raises:
        NotConfiguredError: It is not a private P-256 key; the detail repeats nothing of it.

    Spec: RFC 5958, RFC 7517 §4, RFC 7518 §3.4.
    """
    given = text.reveal().strip()
    if len(given) > _LONGEST_KEY:
        raise NotConfiguredError("the private key is longer than any P-256 key")
    try:
        source: Any = json.loads(given) if given.startswith("{") else given
        return _with_kid(ECKey.import_key(source))
    except (ValueError, TypeError, KeyError, JoseError):
        pass
    # Raised out here, so that nothing leads from it to the key.
    raise NotConfiguredError("the private key is not a P-256 key in PEM or JWK form; ES256 is the only algorithm")


def _with_kid(key: ECKey) -> SigningKey:
    members = {name: str(value) for name, value in key.as_dict(private=True).items()}
    return SigningKey({"kid": key.thumbprint(), **members})
