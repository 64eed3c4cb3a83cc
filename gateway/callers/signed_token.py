"""An access token that another issuer signed: is it good here?

Spec: RFC 9068 §4; RFC 7515; RFC 8725 §3. T-03 to T-05, X-06, AS12.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from binascii import Error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from gateway.endpoint.challenges import InvalidTokenError
from oauthflow.protocol.errors import MalformedResponseError
from oauthflow.protocol.json_documents import parse_json_object

from .claims import CLOCK_SKEW_SECONDS, ExternalToken, read_claims

ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
)  # fmt: skip
"""What may be allowed at all: signatures by a private key. Nothing that a public key could sign, and not `none`."""

LONGEST_SIGNED_TOKEN: Final = 8192
PublicKey = RSAKey | ECKey | OKPKey
KeyFinder = Callable[[str | None, str], PublicKey]

_ALLOWED: Final = frozenset(ALGORITHMS)
_PART: Final = re.compile(r"[A-Za-z0-9_-]+")
_TYPES: Final = frozenset({"at+jwt", "application/at+jwt"})
_PLAIN_TYPES: Final = frozenset({"jwt", "application/jwt", ""})
# Whoever may say in the token where its key is, is his own issuer; an extension we do not know changes the meaning.
_REFUSED_HEADERS: Final = frozenset({"crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc", "cty"})
# Marks of what is no access token, where the type of the token does not say it. OpenID Connect Core §2, §3.1.3.6.
_OF_OTHER_TOKENS: Final = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})


@dataclass(frozen=True, slots=True)
class SignatureRules:
    """What a server asks of tokens that somebody else signed.

    Attributes:
        issuer: `iss`, character by character.
        audience: `aud`, character by character.
        algorithms: Out of `ALGORITHMS`.
        accept_plain_jwt: Whether `typ` may be `JWT` or absent, for issuers that do not follow RFC 9068.
    """

    issuer: str
    audience: str
    algorithms: frozenset[str]
    accept_plain_jwt: bool = False


def signed_key_id(token: str, *, rules: SignatureRules) -> tuple[str | None, str]:
    """Return which key a token says that it is signed with, and by which algorithm; nothing is verified yet.

    Raises:
        InvalidTokenError: It is no token that any key could make good.
    """
    parts = token.split(".")
    if len(token) > LONGEST_SIGNED_TOKEN or len(parts) != 3 or not all(_PART.fullmatch(part) for part in parts):
        raise InvalidTokenError("The access token is not one that is taken here.")
    header = _object(parts[0])
    algorithm, kid = header.get("alg"), header.get("kid")
    is_text = isinstance(algorithm, str) and isinstance(kid, str | None)
    if not is_text or algorithm not in rules.algorithms & _ALLOWED or header.keys() & _REFUSED_HEADERS:
        raise InvalidTokenError("The access token is signed in a way that is not taken here.")
    kind = str(header.get("typ", "")).lower()
    if kind not in _TYPES and not (rules.accept_plain_jwt and kind in _PLAIN_TYPES):
        raise InvalidTokenError("This is not an access token.")
    return kid, str(algorithm)


def read_signed_token(token: str, *, key: PublicKey, rules: SignatureRules, now: float) -> ExternalToken:
    """Return what a good token says.

    Args:
        token: Of which `signed_key_id` named `key`.
        key: A public key of the issuer.
        rules: Of the server that is called.
        now: Unix seconds.

    Raises:
        InvalidTokenError: Signature, issuer, audience, times or form are not as they have to be; or it is bound to a
            key of its holder, who then may not use it as a bearer token (RFC 9449 §7.1, RFC 8705 §3).
    """
    _, algorithm = signed_key_id(token, rules=rules)
    if not _is_signed(token, key=key, algorithm=algorithm):
        raise InvalidTokenError("The signature of the access token is not that of its issuer.")
    claims = _object(token.split(".")[1])
    if claims.get("iss") != rules.issuer:
        raise InvalidTokenError("The access token is of another issuer.")
    if not _is_access_token(claims):
        raise InvalidTokenError("This is not an access token.")
    if type(claims.get("exp")) not in (int, float) or type(claims.get("iat")) not in (int, float):
        raise InvalidTokenError("The access token does not say how long it is good.")
    return read_claims(claims, audience=rules.audience, issuer=rules.issuer, now=now)


def has_ended(token: ExternalToken, *, now: float) -> bool:
    """Whether a token that was good before has expired."""
    return token.expires_at is not None and now >= token.expires_at + CLOCK_SKEW_SECONDS


def _is_signed(token: str, *, key: PublicKey, algorithm: str) -> bool:
    signed, _, signature = token.rpartition(".")
    verifier = JWSRegistry.algorithms[algorithm]
    try:
        verifier.check_key(key)
        key.check_key_op("verify")
        return bool(verifier.verify(signed.encode("ascii"), _decoded(signature), key))
    except (JoseError, ValueError, TypeError):
        return False


def _is_access_token(claims: Mapping[str, Any]) -> bool:
    """Some issuers say in a claim of their own what kind of token it is."""
    said = {str(claims[name]).lower() for name in ("typ", "token_use") if name in claims}
    return not claims.keys() & _OF_OTHER_TOKENS and said <= {"bearer", "access", "at+jwt", "jwt"}


def _object(part: str) -> dict[str, Any]:
    try:
        return parse_json_object(_decoded(part))
    except (MalformedResponseError, RecursionError):
        raise InvalidTokenError("The access token is not one that is taken here.") from None


def _decoded(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (Error, ValueError):
        raise InvalidTokenError("The access token is not one that is taken here.") from None
