"""Our access tokens: make one, and tell whether one is good. The gateway uses this module and nothing else of the app.

Spec: RFC 9068; RFC 8725; RFC 9700 §4.15. X-06, T-03 to T-05, AS12.
"""

from __future__ import annotations

import hashlib
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID

from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry, deserialize_compact

from oauthflow.newest import Newest

from .conf import authserver_configuration, issuer
from .models import ServiceAccount, Subject
from .protocol.errors import InvalidTokenError
from .revoked import REVOKED, Revoked, in_thread
from .signing_keys import ALGORITHM, signing_key, verification_keys

__all__ = [
    "InvalidTokenError",
    "Revoked",
    "VerifiedToken",
    "arevoked",
    "averify",
    "mint_access_token",
    "new_jti",
    "read_signed",
    "verify",
]

TYPE: Final = "at+jwt"
_JSON: Final = json.JSONEncoder(separators=(",", ":"))
LONGEST_TOKEN: Final = 8192
_CACHED: Final = 10_000
_CLOCK_SKEW_SECONDS: Final = 10
_ISSUED_AHEAD_SECONDS: Final = 60
_TEXTS: Final = ("iss", "sub", "aud", "client_id", "jti")
_FAMILY_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token whose signature, issuer, times and form were checked.

    Attributes:
        subject: `sub`: `user:…` for a person, the client's id for a service account.
        user_id: Whose rights it carries; None for a service account that acts for nobody.
        client_id: The program that holds it.
        audience: The one resource it is for.
        scopes: What it may do there.
        issued_at: Unix seconds.
        expires_at: Unix seconds.
        jti: Its name.
        family: Hex of the id of the family or service account that it belongs to.
    """

    subject: str
    user_id: int | None
    client_id: str
    audience: str
    scopes: frozenset[str]
    issued_at: int
    expires_at: int
    jti: str
    family: str


def mint_access_token(
    *, subject: str, client_id: str, audience: str, scope: str, jti: str, issued_at: int, seconds: int
) -> str:
    """Sign an access token.

    Args:
        subject: See `VerifiedToken`.
        client_id: The program that it is given to.
        audience: A resource of `authserver.resources`.
        scope: Space-separated; may be empty.
        jti: Of `new_jti`.
        issued_at: Unix seconds.
        seconds: How long it is good.

    Spec: RFC 9068 §2; RFC 7515 §7.1. X-06.
    """
    kid, key = signing_key()
    header = _part({"alg": ALGORITHM, "typ": TYPE, "kid": kid})
    claims = {
        "iss": issuer(), "sub": subject, "aud": audience, "client_id": client_id, "scope": scope,
        "iat": issued_at, "exp": issued_at + seconds, "jti": jti,
    }  # fmt: skip
    signed = header + b"." + _part(claims)
    signature = JWSRegistry.algorithms[ALGORITHM].sign(signed, key)
    return (signed + b"." + _encoded(signature)).decode("ascii")


def new_jti(family_id: UUID, random: bytes) -> str:
    """Name a token: the id of what it belongs to, and random bytes."""
    return _encoded(family_id.bytes + random).decode("ascii")


def verify(token: str, *, audience: str) -> VerifiedToken:
    """Return what a good access token of ours says.

    Args:
        token: As it came in the `Authorization` header.
        audience: The resource that was called; the token has to be for exactly this one.

    Raises:
        InvalidTokenError: Malformed, not ours, not for this resource, expired or revoked. What the reason was is for
            logs only.

    Spec: RFC 9068 §4; RFC 6750 §3.1; RFC 8725. T-03 to T-05, X-06, AS11, AS12.
    """
    return _CACHE.verify(token, _digest(token), audience=audience, revoked=REVOKED.read())


def revoked_as_known() -> Revoked | None:
    """Return what `arevoked` would without asking the database; None where it has to be asked."""
    return REVOKED.fresh()


async def arevoked() -> Revoked:
    """Return what was revoked. While it is the same object, a token that was good is good until it expires."""
    return await REVOKED.aread()


async def averify(token: str, *, audience: str, at: float | None = None) -> VerifiedToken:
    """`verify` in an event loop; errors are the same.

    Args:
        token: See there.
        audience: See there.
        at: Unix second at which it must not have expired; None: now. What was revoked since is bad all the same.
    """
    revoked, digest = await REVOKED.aread(), _digest(token)
    verify = partial(_CACHE.verify, token, digest, audience=audience, revoked=revoked, at=at)
    return verify() if _CACHE.holds(digest) else await in_thread(verify)


def read_signed(token: str) -> VerifiedToken:
    """Return what a token of ours says, whoever it is for and whether or not it was revoked; for who gives it back.

    Raises:
        InvalidTokenError: Malformed, not ours, or expired.
    """
    return _verified(token, now=time.time())


class VerifiedTokens:
    """The most recently verified tokens by their SHA-256: a signature is checked once, times and revocations always."""

    def __init__(self, *, size: int = _CACHED) -> None:
        self._kept: Newest[bytes, VerifiedToken] = Newest(most=size)

    def holds(self, digest: bytes) -> bool:
        """Whether `verify` would not ask the database."""
        return digest in self._kept

    def forget(self) -> None:
        """Check every signature again."""
        self._kept.clear()

    def verify(
        self, token: str, digest: bytes, *, audience: str, revoked: Revoked, at: float | None = None
    ) -> VerifiedToken:
        """See `authserver.tokens.averify`; `digest` is that of the token."""
        verified, now = self._kept.get(digest), time.time() if at is None else at
        if verified is None:
            verified = self._kept[digest] = _verified(token, now=now)
        elif now >= verified.expires_at + _CLOCK_SKEW_SECONDS:
            self._kept.pop(digest, None)
            raise InvalidTokenError("The access token has expired.")
        if verified.audience != audience:
            raise InvalidTokenError("The access token is for another resource.")
        if revoked.covers(verified.jti, verified.family, verified.subject, issued_at=verified.issued_at):
            raise InvalidTokenError("The access token was revoked.")
        return verified


_CACHE: Final = VerifiedTokens()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _verified(token: str, *, now: float) -> VerifiedToken:
    claims = _signed_claims(token)
    _check_times(claims, now=now)
    if claims["iss"] != issuer():
        raise InvalidTokenError("The access token is not ours.", detail="iss")
    subject, client_id = claims["sub"], claims["client_id"]
    return VerifiedToken(
        subject=subject,
        user_id=_user_of(subject, client_id=client_id),
        client_id=client_id,
        audience=claims["aud"],
        scopes=frozenset(claims["scope"].split()),
        issued_at=claims["iat"],
        expires_at=claims["exp"],
        jti=claims["jti"],
        family=_decoded(claims["jti"])[:_FAMILY_BYTES].hex(),
    )


def _signed_claims(token: str) -> Mapping[str, Any]:
    """Check form and signature. The header may name a type, an algorithm and a key of ours, and nothing else."""
    if len(token) > LONGEST_TOKEN or token.count(".") != 2 or not token.isascii():
        raise InvalidTokenError("This is not an access token of ours.", detail="form")
    header = _json_object(token.partition(".")[0])
    key = verification_keys().get(str(header.get("kid")))
    if header.keys() != {"alg", "typ", "kid"} or header["alg"] != ALGORITHM or header["typ"] != TYPE or key is None:
        raise InvalidTokenError("This is not an access token of ours.", detail="header")
    try:
        deserialize_compact(token, key, algorithms=[ALGORITHM])
    except (JoseError, ValueError) as error:
        raise InvalidTokenError("This is not an access token of ours.", detail="signature") from error
    claims = _json_object(token.split(".")[1])
    if not all(isinstance(claims.get(name), str) and claims[name] for name in _TEXTS):
        raise InvalidTokenError("This is not an access token of ours.", detail="claims")
    if not isinstance(claims.get("scope"), str):
        raise InvalidTokenError("This is not an access token of ours.", detail="scope")
    return claims


def _check_times(claims: Mapping[str, Any], *, now: float) -> None:
    times = [claims.get("iat"), claims.get("exp"), claims.get("nbf", 0)]
    if not all(type(moment) is int for moment in times):
        raise InvalidTokenError("This is not an access token of ours.", detail="times")
    if now >= claims["exp"] + _CLOCK_SKEW_SECONDS:
        raise InvalidTokenError("The access token has expired.")
    longest = authserver_configuration().access_token_seconds
    if claims["iat"] > now + _ISSUED_AHEAD_SECONDS or times[2] > now + _CLOCK_SKEW_SECONDS:
        raise InvalidTokenError("The access token is not good yet.")
    if not 0 < claims["exp"] - claims["iat"] <= max(longest, 3600):
        raise InvalidTokenError("This is not an access token of ours.", detail="lifetime")


def _user_of(subject: str, *, client_id: str) -> int | None:
    if subject != client_id:
        user_id = Subject.objects.filter(sub=subject).values_list("user_id", flat=True).first()
        if user_id is None:
            raise InvalidTokenError("The access token is of nobody here.")
        return int(user_id)
    found = ServiceAccount.objects.filter(client__client_id=client_id).values_list("user_id", flat=True)
    if not found:
        raise InvalidTokenError("The access token is of nobody here.")
    return found[0]


def _part(content: Mapping[str, object]) -> bytes:
    return _encoded(_JSON.encode(content).encode())


def _encoded(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def _decoded(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Error, ValueError) as error:
        raise InvalidTokenError("This is not an access token of ours.", detail="encoding") from error


def _json_object(text: str) -> dict[str, Any]:
    """Read one part; a name that stands twice could be read in two ways."""
    try:
        found = json.loads(_decoded(text), object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise InvalidTokenError("This is not an access token of ours.", detail="JSON") from error
    if not isinstance(found, dict):
        raise InvalidTokenError("This is not an access token of ours.", detail="JSON")
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)
