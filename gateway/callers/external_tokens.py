"""Tokens of other issuers: verified or asked about once, then known by their SHA-256 for a while."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.endpoint.challenges import InvalidTokenError
from oauthflow.newest import Newest

from .claims import CLOCK_SKEW_SECONDS, ExternalToken
from .introspected_token import introspect, read_introspection
from .issuer_keys import KEYS
from .issuer_requests import REQUESTS
from .signed_token import SignatureRules, has_ended, read_signed_token, signed_key_id
from .trusts import Kind, Trust

_KEPT: Final = 10_000
_LONGEST_REFUSAL_SECONDS: Final = 10
_NOT_ACTIVE: Final = "The access token is not active."
_Place = tuple[str, str, bytes]
"""The version of the rules, the audience, and the token's SHA-256."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found; `token` is None where it is not good.

    `keys_of` is the moment of the keys that it was verified by, or None; `until` is of the monotonic clock.
    """

    token: ExternalToken | None
    keys_of: float | None = None
    until: float = float("inf")


class ExternalTokens:
    """The newest. Nothing is believed longer than the token is good, its keys are fresh, or as configured.

    A change of the rules is a change of their version, under which nothing is known yet. Refusals have a place of their
    own: whoever makes up tokens pushes out none that are good, about which their issuer would have to be asked again.
    """

    def __init__(self, *, size: int = _KEPT) -> None:
        self._good: Newest[_Place, _Known] = Newest(most=size)
        self._refused: Newest[_Place, _Known] = Newest(most=size)

    async def read(self, token: str, *, trust: Trust, at: float) -> ExternalToken:
        """Return what a good token says.

        Args:
            token: As it was presented.
            trust: Of the server that is called, with an issuer that is not this site.
            at: Unix second at which it must not have expired.

        Raises:
            InvalidTokenError: It is not good here.
            IssuerUnavailableError: Nobody knows, because the issuer could not be asked.
        """
        place = (trust.version, trust.audience, hashlib.sha256(token.encode("ascii")).digest())
        known = self._good.get(place) or self._refused.get(place)
        if known is None or not _holds(known, trust=trust, at=at):
            known = await (_verified if trust.kind == Kind.ISSUER else _asked)(token, trust=trust, at=at)
            self._keep(place, known)
        if known.token is None:
            raise InvalidTokenError(_NOT_ACTIVE)
        if has_ended(known.token, now=at):
            raise InvalidTokenError("The access token has expired.")
        return known.token

    def forget(self) -> None:
        """Know nothing; for tests."""
        self._good.clear()
        self._refused.clear()

    def _keep(self, place: _Place, known: _Known) -> None:
        if known.token is None and _expired_at(self._good.get(place)) is not None:
            return  # that it is not active is no news, and ends no answer that may outlive it
        kept, other = (self._refused, self._good) if known.token is None else (self._good, self._refused)
        other.pop(place, None)
        kept[place] = known


EXTERNAL_TOKENS: Final = ExternalTokens()


def _expired_at(known: _Known | None) -> float | None:
    ends_at = known.token.expires_at if known is not None and known.token is not None else None
    return ends_at if ends_at is not None and time.time() >= ends_at else None


def _holds(known: _Known, *, trust: Trust, at: float) -> bool:
    if known.keys_of is not None:
        return known.keys_of == KEYS.moment(issuer=trust.issuer, jwks_uri=trust.jwks_uri)
    if time.monotonic() < known.until:
        return True
    # An issuer that is asked about a token that has expired says no more than that it is not active.
    expired_at = _expired_at(known) if trust.kind == Kind.INTROSPECTION else None
    return expired_at is not None and not expired_at <= at < expired_at + CLOCK_SKEW_SECONDS


async def _verified(token: str, *, trust: Trust, at: float) -> _Known:
    rules = SignatureRules(trust.issuer, trust.audience, trust.algorithms, trust.accept_plain_jwt)
    kid, algorithm = signed_key_id(token, rules=rules)
    key = await KEYS.find(kid, algorithm, issuer=trust.issuer, jwks_uri=trust.jwks_uri)
    found = read_signed_token(token, key=key, rules=rules, now=at)
    # Where the keys are not fresh, because the issuer does not answer, nothing is kept.
    moment = KEYS.moment(issuer=trust.issuer, jwks_uri=trust.jwks_uri)
    return _Known(found, keys_of=moment, until=float("-inf"))


async def _asked(token: str, *, trust: Trust, at: float) -> _Known:
    question = partial(
        introspect,
        token,
        endpoint=trust.introspection_endpoint,
        client_id=trust.client_id,
        client_secret=trust.client_secret,
    )
    asked_at = time.monotonic()
    answer = await REQUESTS.ask(trust.issuer, (trust.version, token), question)
    if answer["active"] is not True:
        return _Known(None, until=asked_at + min(trust.cache_seconds, _LONGEST_REFUSAL_SECONDS))
    found = read_introspection(answer, issuer=trust.issuer, audience=trust.audience, now=at)
    return _Known(found, until=asked_at + trust.cache_seconds)
