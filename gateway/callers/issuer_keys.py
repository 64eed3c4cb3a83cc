"""The public keys of other issuers, fetched seldom and kept in memory.

Asked for anew when they are ten minutes old, and for a key that nobody knows, at most once in half a minute: whoever
makes up key ids cannot make us ask. Where the issuer does not answer, what is known is good for an hour.
"""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key

from gateway.endpoint.challenges import InvalidTokenError
from oauthflow.egress import Egress
from oauthflow.protocol.discovery import authorization_server_urls, read_authorization_server_metadata
from oauthflow.protocol.errors import DiscoveryError, FlowError, MalformedResponseError
from oauthflow.protocol.json_documents import read_json_object
from oauthflow.protocol.messages import Request, Response

from .issuer_requests import REQUESTS, IssuerUnavailableError
from .signed_token import PublicKey

FRESH_SECONDS: Final = 600.0
KEPT_SECONDS: Final = 3600.0
UNKNOWN_KEY_SECONDS: Final = 30.0
_MOST_KEYS: Final = 50
_LEAST_RSA_BITS: Final = 2048
_PUBLIC_MEMBERS: Final = frozenset({"kty", "use", "key_ops", "alg", "kid", "n", "e", "crv", "x", "y"})


@dataclass(frozen=True, slots=True, eq=False)
class IssuerKeys:
    """What an issuer published at one moment; `fetched_at` is of the monotonic clock."""

    keys: Sequence[tuple[str | None, PublicKey]]
    fetched_at: float

    def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """Return the one key that fits; where no id is given there has to be no choice. RFC 7515 §4.1.4."""
        fitting = [key for known, key in self.keys if (kid is None or known == kid) and _fits(key, algorithm)]
        return fitting[0] if len(fitting) == 1 else None


class KnownKeys:
    """The keys of each issuer, by its name and the address where they are."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], IssuerKeys] = {}

    async def find(self, kid: str | None, algorithm: str, *, issuer: str, jwks_uri: str) -> PublicKey:
        """Return the key that a token names.

        Args:
            kid: Of the token's header.
            algorithm: Of the token's header; it was allowed already.
            issuer: Configured; whatever a token says is not looked at.
            jwks_uri: Where its keys are; empty: as its metadata says.

        Raises:
            InvalidTokenError: The issuer has no such key.
            IssuerUnavailableError: The issuer could not be asked, and nothing recent enough is known.

        Spec: RFC 7517 §5; OpenID Connect Core §10.1.1; RFC 8414 §2.
        """
        place = (issuer, jwks_uri)
        known = self._known.get(place)
        key = known.find(kid, algorithm) if known else None
        age = time.monotonic() - known.fetched_at if known else float("inf")
        if age >= (FRESH_SECONDS if key else UNKNOWN_KEY_SECONDS):
            key = await self._renewed(place, kid, algorithm, fallback=key if age < KEPT_SECONDS else None)
        if key is None:
            raise InvalidTokenError("The access token is signed with a key that its issuer does not publish.")
        return key

    def moment(self, *, issuer: str, jwks_uri: str) -> float | None:
        """Return when the keys were fetched, as long as they are fresh: what was verified by them then holds still."""
        known = self._known.get((issuer, jwks_uri))
        return known.fetched_at if known and time.monotonic() - known.fetched_at < FRESH_SECONDS else None

    def forget(self) -> None:
        """Know nothing; for tests."""
        self._known.clear()

    async def _renewed(
        self, place: tuple[str, str], kid: str | None, algorithm: str, *, fallback: PublicKey | None
    ) -> PublicKey | None:
        try:
            known = await REQUESTS.ask(place[0], place, partial(self._fetched, place))
        except IssuerUnavailableError:
            if fallback is None:
                raise
            return fallback
        return known.find(kid, algorithm)

    def _fetched(self, place: tuple[str, str]) -> IssuerKeys:
        """In a thread; kept before anybody is told, so that nobody begins another fetch meanwhile."""
        self._known[place] = known = IssuerKeys(_fetch(*place), time.monotonic())
        return known


KEYS: Final = KnownKeys()


def _fetch(issuer: str, jwks_uri: str) -> Sequence[tuple[str | None, PublicKey]]:
    """Ask the issuer.

    Raises:
        FlowError: No usable metadata, no usable keys, or no answer.
    """
    http = Egress()
    response = _get(jwks_uri or _jwks_uri_of(issuer, http=http), step="keys of an issuer", http=http)
    try:
        listed = read_json_object(response).get("keys")
    except MalformedResponseError as error:
        raise DiscoveryError(error.detail) from None
    jwks = listed if isinstance(listed, list) else []
    usable = [(kid, key) for jwk in jwks[:_MOST_KEYS] for kid, key in _usable(jwk)]
    if not usable:
        raise DiscoveryError("the document holds no key of a kind that is known here")
    return usable


def _jwks_uri_of(issuer: str, *, http: Egress) -> str:
    problem: FlowError = DiscoveryError("the issuer publishes no metadata")
    for url in authorization_server_urls(issuer):
        try:
            response = _get(url, step="metadata of an issuer", http=http)
            uri = read_authorization_server_metadata(response, issuer=issuer).document.get("jwks_uri")
        except (DiscoveryError, MalformedResponseError) as error:
            problem = error
            continue
        if isinstance(uri, str) and uri:
            return uri
    raise problem


def _get(url: str, *, step: str, http: Egress) -> Response:
    response = http.send(Request("GET", url, headers={"Accept": "application/json"}), step=step)
    if response.status != 200:
        raise DiscoveryError(f"status {response.status}")
    return response


def _usable(jwk: object) -> list[tuple[str | None, PublicKey]]:
    """One key, or none where it is of a kind that is not for us: others stand beside it. RFC 7517 §5."""
    if not isinstance(jwk, Mapping) or jwk.get("use", "sig") != "sig" or not isinstance(jwk.get("kid", ""), str):
        return []
    public = {name: value for name, value in jwk.items() if name in _PUBLIC_MEMBERS}
    try:
        key = None if _is_weak(public) else import_key(public)
    except (JoseError, ValueError, TypeError):
        return []
    return [(jwk.get("kid"), key)] if isinstance(key, RSAKey | ECKey | OKPKey) else []


def _is_weak(jwk: Mapping[str, Any]) -> bool:
    """RFC 7518 §3.3."""
    modulus = urlsafe_b64decode(str(jwk.get("n", "")) + "==")
    return jwk.get("kty") == "RSA" and int.from_bytes(modulus).bit_length() < _LEAST_RSA_BITS


def _fits(key: PublicKey, algorithm: str) -> bool:
    kind = {"R": "RSA", "P": "RSA"}.get(algorithm[0], "OKP" if algorithm.startswith("Ed") else "EC")
    return key.key_type == kind and key.get("alg", algorithm) == algorithm
