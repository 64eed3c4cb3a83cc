"""How a client says who it is, and the checks that need nothing but the request.

Spec: RFC 6749 §2.3, §3.2.1; RFC 7523 §2.2, §3; RFC 7591 §2. AS17.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from binascii import Error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import extract_compact

from oauthflow.protocol.secret import Secret

from .errors import InvalidClientError, InvalidRequestError

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_ALGORITHMS: Final = ("ES256", "RS256", "PS256", "EdDSA")
_LONGEST_ASSERTION: Final = 8192
_LONGEST_LIFE_SECONDS: Final = 600
_CLOCK_SKEW_SECONDS: Final = 10
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ClientProof:
    """What a request says about its client, unproved.

    Attributes:
        method: `none`, `client_secret_basic`, `client_secret_post` or `private_key_jwt`.
        client_id: Whom it names.
        proof: The secret or the assertion; empty for `none`.
    """

    method: str
    client_id: str
    proof: Secret


def read_client_proof(form: Mapping[str, str], *, authorization: str | None) -> ClientProof:
    """Return the one way in which a request says who asks.

    Args:
        form: Of `read_form`.
        authorization: The header, or None.

    Raises:
        InvalidClientError: Nobody is named, or the header or the assertion cannot be read.
        InvalidRequestError: Two ways at once, or two different names.

    Spec: RFC 6749 §2.3: no more than one method in each request.
    """
    ways = [authorization is not None, "client_secret" in form, "client_assertion" in form]
    if sum(ways) > 1:
        raise InvalidRequestError("Use one way of client authentication.")
    if authorization is not None:
        proof = _basic(authorization)
    elif "client_assertion" in form:
        proof = _assertion(form)
    else:
        method = "client_secret_post" if "client_secret" in form else "none"
        proof = ClientProof(method, form.get("client_id", ""), Secret(form.get("client_secret", "")))
    if not proof.client_id:
        raise InvalidClientError("No client is named.")
    if form.get("client_id", proof.client_id) != proof.client_id:
        raise InvalidRequestError("Two different clients are named.")
    return proof


def check_assertion(
    proof: ClientProof, *, jwks: Mapping[str, Any], audiences: Sequence[str], now: float
) -> Mapping[str, Any]:
    """Check a client's assertion by its public keys; whether its `jti` is new is for the caller to say.

    Args:
        proof: With the method `private_key_jwt`.
        jwks: The keys that the client registered.
        audiences: Names of ours: the issuer, the token endpoint.
        now: Unix seconds.

    Returns:
        The claims; `jti` is a text, `exp` a number at most ten minutes away.

    Raises:
        InvalidClientError: Whatever is wrong with it.

    Spec: RFC 7523 §3; RFC 8725 §3.1. AS12.
    """
    refused = InvalidClientError("The client assertion is not good.")
    try:
        keys = KeySet.import_key_set({"keys": list(jwks.get("keys", []))})
        claims = jwt.decode(proof.proof.reveal(), keys, algorithms=list(ASSERTION_ALGORITHMS)).claims
    except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise refused from error
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    times = [claims.get("exp"), claims.get("nbf", 0), claims.get("iat", 0)]
    if not (claims.get("iss") == claims.get("sub") == proof.client_id) or not any(name in audiences for name in named):
        raise refused
    if not all(isinstance(moment, int | float) and not isinstance(moment, bool) for moment in times):
        raise refused
    expires, not_before, issued = times
    if not now - _CLOCK_SKEW_SECONDS < expires <= now + _LONGEST_LIFE_SECONDS:
        raise refused
    if max(not_before, issued) > now + _CLOCK_SKEW_SECONDS or not isinstance(claims.get("jti"), str):
        raise refused
    return claims


def unverified_key_id(proof: ClientProof) -> str | None:
    """Return the `kid` by which an assertion names its key, whether it is signed with that or not; None without one.

    Raises:
        InvalidClientError: What it holds is no JWS.
    """
    if proof.method != "private_key_jwt":
        return None
    try:
        key_id = extract_compact(proof.proof.reveal().encode()).headers().get("kid")
    except (JoseError, ValueError, TypeError) as error:
        raise InvalidClientError("The client assertion is not good.") from error
    return key_id if isinstance(key_id, str) else None


def _basic(authorization: str) -> ClientProof:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise InvalidClientError("Clients authenticate by Basic, in the body, or by an assertion.")
    try:
        # RFC 6749 §2.3.1: both parts are form-encoded before they are put together.
        name, colon, secret = b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
        client_id, text = (unquote_plus(part, errors="strict") for part in (name, secret))
    except (Error, ValueError) as error:
        raise InvalidClientError("The Authorization header cannot be read.") from error
    if not colon or _CONTROL.search(client_id + text):
        raise InvalidClientError("The Authorization header cannot be read.")
    return ClientProof("client_secret_basic", client_id, Secret(text))


def _assertion(form: Mapping[str, str]) -> ClientProof:
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise InvalidRequestError("client_assertion_type is missing or of a kind that is not known here.")
    text = form["client_assertion"]
    if len(text) > _LONGEST_ASSERTION:
        raise InvalidClientError("The client assertion is not good.")
    try:
        # Only whom it names, to find the keys: nothing is believed before the signature is checked.
        unverified_claims = json.loads(extract_compact(text.encode()).payload)
        client_id = unverified_claims["sub"]
    except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidClientError("The client assertion is not good.") from error
    if not isinstance(client_id, str) or _CONTROL.search(client_id):
        raise InvalidClientError("The client assertion is not good.")
    return ClientProof("private_key_jwt", client_id, Secret(text))
