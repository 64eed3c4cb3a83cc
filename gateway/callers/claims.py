"""What an access token of another issuer says, whether in its own claims or in the answer to an introspection."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.endpoint.challenges import InvalidTokenError

CLOCK_SKEW_SECONDS: Final = 10
_ISSUED_AHEAD_SECONDS: Final = 60
_LONGEST_SUBJECT: Final = 255
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]{1,200}")


@dataclass(frozen=True, slots=True)
class ExternalToken:
    """A token of another issuer that is good here, but for its scopes and its person.

    Attributes:
        issuer: As it is configured.
        subject: `sub`; at most 255 characters.
        client_id: The program; empty where the issuer does not say.
        scopes: What it may do.
        expires_at: Unix seconds; None where an introspection does not say.
        claims: The rest, to find the person by. Never logged.
    """

    issuer: str
    subject: str
    client_id: str
    scopes: frozenset[str]
    expires_at: float | None
    claims: Mapping[str, Any]


def read_claims(claims: Mapping[str, Any], *, audience: str, issuer: str, now: float) -> ExternalToken:
    """Check audience, times and binding, and return what the claims say.

    Args:
        claims: Of a verified token, or of the answer to an introspection.
        audience: `aud` has to be this and nothing besides: a token for two places can be replayed at the other.
        issuer: Whose claims these are.
        now: Unix seconds.

    Raises:
        InvalidTokenError: What is wrong with it, in words that may be sent.

    Spec: RFC 9068 §2.2, §4; RFC 7519 §4.1; RFC 7662 §2.2; RFC 8725 §3.8, §3.9. T-03, T-04, AS12.
    """
    if claims.get("aud") not in (audience, [audience]):
        raise InvalidTokenError("The access token is for another resource.")
    if "cnf" in claims:
        raise InvalidTokenError("The access token is bound to a key, so it is no bearer token.")
    _check_times(claims, now=now)
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT:
        raise InvalidTokenError("The access token does not say whose it is.")
    return ExternalToken(
        issuer=issuer,
        subject=subject,
        client_id=_client_of(claims),
        scopes=_scopes_of(claims),
        expires_at=claims.get("exp"),
        claims=claims,
    )


def _check_times(claims: Mapping[str, Any], *, now: float) -> None:
    expires, not_before, issued = claims.get("exp"), claims.get("nbf", 0), claims.get("iat", 0)
    if not all(type(moment) in (int, float) for moment in (expires or 0, not_before, issued)):
        raise InvalidTokenError("The access token does not say how long it is good.")
    if expires is not None and now >= expires + CLOCK_SKEW_SECONDS:
        raise InvalidTokenError("The access token has expired.")
    if not_before > now + CLOCK_SKEW_SECONDS or issued > now + _ISSUED_AHEAD_SECONDS:
        raise InvalidTokenError("The access token is not good yet.")


def _client_of(claims: Mapping[str, Any]) -> str:
    said = next((claims[name] for name in ("client_id", "azp", "appid") if name in claims), "")
    return said if isinstance(said, str) and _PRINTABLE.fullmatch(said) else ""


def _scopes_of(claims: Mapping[str, Any]) -> frozenset[str]:
    """`scope` of RFC 9068 §2.2.3, else `scp`, as some issuers call it; text or a list of texts."""
    said = claims.get("scope", claims.get("scp", ""))
    if isinstance(said, list):
        return frozenset(scope for scope in said if isinstance(scope, str))
    return frozenset(said.split(" ")) - {""} if isinstance(said, str) else frozenset()
