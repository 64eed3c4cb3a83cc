"""Proof of possession: requests that only the holder of a key can make. RFC 9449."""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime

from joserfc import jwt
from joserfc.jwk import ECKey

from .bearer import parse_challenges
from .errors import DiscoveryError, MalformedResponseError
from .json_documents import read_json_object
from .messages import Response
from .retry_after import ServerUnavailableError
from .secret import Secret
from .signing_key import SIGNING_ALGORITHM, SigningKey

SCHEME = "DPoP"
PROOF_HEADER = "DPoP"
NONCE_HEADER = "dpop-nonce"
_USE_NONCE = "use_dpop_nonce"
_PROOF_TYPE = "dpop+jwt"
# RFC 9449 §8.1, with a limit of ours.
_NONCE = re.compile(r"[!#-\[\]-~]{1,1024}")


class NonceAskedError(ServerUnavailableError):
    """The server wants the request once more, with the nonce that it gave. RFC 9449 §8, §9."""


def dpop_proof(
    key: SigningKey, *, method: str, url: str, now: datetime, nonce: str = "", access_token: Secret | None = None
) -> str:
    """Return the proof for one request, good for no other.

    Args:
        key: Ours for this connection; only its public half goes into the proof.
        method: Of the request.
        url: Of the request; query and fragment are left out of the proof.
        now: Aware UTC.
        nonce: The last one that this server gave; empty: none yet.
        access_token: Sent with the request; None at the token endpoint.

    Spec: RFC 9449 §4.2, §7.1.
    """
    claims: dict[str, str | int] = {
        "jti": secrets.token_urlsafe(16),
        "htm": method,
        "htu": proof_url(url),
        "iat": int(now.timestamp()),
    }
    if access_token is not None:
        digest = hashlib.sha256(access_token.reveal().encode("ascii")).digest()
        claims["ath"] = urlsafe_b64encode(digest).decode("ascii").rstrip("=")
    if nonce:
        claims["nonce"] = nonce
    header = {"typ": _PROOF_TYPE, "alg": SIGNING_ALGORITHM, "jwk": key.public_jwk}
    return jwt.encode(header, claims, ECKey.import_key(dict(key.jwk)), algorithms=[SIGNING_ALGORITHM])


def proof_url(url: str) -> str:
    """Return the address that a proof names: without query and fragment. RFC 9449 §4.2."""
    return url.partition("?")[0].partition("#")[0]


def given_nonce(response: Response) -> str:
    """Return the nonce that a response gives for the next request, or an empty text. RFC 9449 §8.2."""
    value = response.headers.get(NONCE_HEADER, "")
    return value if _NONCE.fullmatch(value) else ""


def asks_for_nonce(response: Response) -> bool:
    """Whether a response refuses a request only because its proof lacks the nonce that comes with it.

    Spec: RFC 9449 §8 for the token endpoint (400 with an error document), §9 for a resource (401 with a challenge).
    """
    if not given_nonce(response):
        return False
    if response.status == 401:
        challenges = parse_challenges(response.headers.get("www-authenticate", ""))
        if any(one.scheme == SCHEME and one.error == _USE_NONCE for one in challenges):
            return True
    if response.status not in (400, 401):
        return False
    try:
        return read_json_object(response).get("error") == _USE_NONCE
    except MalformedResponseError:
        return False


def require_our_algorithm(supported: Sequence[str] | None) -> None:
    """Refuse a server that takes proofs, but none of ours; one that says nothing is tried.

    Raises:
        DiscoveryError: `dpop_signing_alg_values_supported` does not list ES256.

    Spec: RFC 9449 §5.1.
    """
    if supported is not None and SIGNING_ALGORITHM not in supported:
        raise DiscoveryError("dpop_signing_alg_values_supported does not list ES256")
