"""How we prove at an endpoint who we are. RFC 6749 §2.3, RFC 7521 §4.2, RFC 7523 §2.2."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote_plus

from joserfc import jwt
from joserfc.jwk import ECKey

from .codes import Code
from .errors import InvalidRequestError, RegistrationError
from .secret import Secret
from .signing_key import SIGNING_ALGORITHM, SigningKey

AUTO = "auto"
NONE = "none"
BASIC = "client_secret_basic"
POST = "client_secret_post"
PRIVATE_KEY_JWT = "private_key_jwt"
AUTH_METHODS = frozenset({NONE, BASIC, POST, PRIVATE_KEY_JWT})
SECRET_METHODS = frozenset({BASIC, POST})
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFETIME_SECONDS = 60


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """Who we are at one authorization server; `auth_method` is one of `AUTH_METHODS`."""

    client_id: str
    client_secret: Secret | None = None
    auth_method: str = NONE
    signing_key: SigningKey | None = None


def public_jwks(keys: Iterable[SigningKey]) -> dict[str, list[dict[str, str | list[str]]]]:
    """Return the JWK Set document that verifies our assertions, without any private member.

    Spec: RFC 7517 §5, RFC 7518 §6.2. R-07.
    """
    return {"keys": [_public_jwk(key) for key in keys]}


def _public_jwk(key: SigningKey) -> dict[str, str | list[str]]:
    return {**key.public_jwk, "kid": key.kid, "use": "sig", "alg": SIGNING_ALGORITHM}


def choose_auth_method(*, wanted: str, has_secret: bool, supported: Sequence[str] | None, has_key: bool = False) -> str:
    """Choose how to authenticate at the token endpoint.

    Args:
        wanted: One of `AUTH_METHODS`, set by an administrator or by the registration; or `auto`.
        has_secret: Whether there is a client secret.
        has_key: Whether a private key was entered for this client; it goes first, since it never travels.
        supported: `token_endpoint_auth_methods_supported`; None where the metadata has no such field.

    Raises:
        InvalidRequestError: With code `invalid_client`: an unknown method, a method that needs a secret without
            one, or a server that supports none of the methods a secret is good for.

    Spec: RFC 8414 §2 for the absent list, RFC 6749 §2.3.1. T-12.
    """
    if wanted != AUTO:
        if wanted not in AUTH_METHODS:
            raise _unusable("token endpoint authentication method unknown")
        if wanted in SECRET_METHODS and not has_secret:
            raise _unusable(f"{wanted} without a client secret")
        return wanted
    if has_key and (supported is None or PRIVATE_KEY_JWT in supported or not has_secret):
        return PRIVATE_KEY_JWT
    if not has_secret:
        return NONE
    # RFC 8414 §2: an absent list means client_secret_basic.
    offered = (BASIC,) if supported is None else supported
    for method in (BASIC, POST, NONE):
        if method in offered:
            return method
    raise _unusable("the server supports no authentication by client secret")


def auth_method_to_register(*, supported: Sequence[str] | None) -> str:
    """Choose the authentication method to ask for when we register.

    Args:
        supported: `token_endpoint_auth_methods_supported`; None where the metadata has no such field.

    Raises:
        RegistrationError: The server supports no method of ours.

    Spec: RFC 7591 §2, RFC 8414 §2. T-12.
    """
    offered = (BASIC,) if supported is None else supported
    for method in (BASIC, POST, NONE, PRIVATE_KEY_JWT):
        if method in offered:
            return method
    raise RegistrationError("the server supports no client authentication method of ours")


def authenticate(
    form: Mapping[str, str], *, client: ClientCredentials, audience: str, now: datetime
) -> tuple[dict[str, str], dict[str, str]]:
    """Add to a form what proves the client.

    Args:
        form: Request parameters without any client parameter; not changed.
        client: Us, as this authorization server knows us.
        audience: The authorization server's issuer, for an assertion.
        now: Aware UTC; an assertion lives for 60 seconds from here.

    Returns:
        The headers to send, then the complete form. Both hold secrets.

    Raises:
        InvalidRequestError: With code `invalid_client`: the credentials lack what their method needs.

    Spec: RFC 6749 §2.3.1, RFC 7521 §4.2, RFC 7523 §3. T-12.
    """
    if client.auth_method == BASIC:
        return {"Authorization": _basic(client)}, dict(form)
    identified = {**form, "client_id": client.client_id}
    if client.auth_method == NONE:
        return {}, identified
    if client.auth_method == POST:
        return {}, {**identified, "client_secret": _secret(client).reveal()}
    if client.auth_method == PRIVATE_KEY_JWT:
        assertion = _assertion(client, audience=audience, now=now)
        return {}, {**identified, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
    raise _unusable("token endpoint authentication method unknown")


def _basic(client: ClientCredentials) -> str:
    # RFC 6749 §2.3.1: both are form-encoded first, so that a colon in the id does not end it.
    pair = f"{quote_plus(client.client_id)}:{quote_plus(_secret(client).reveal())}"
    return f"Basic {b64encode(pair.encode('ascii')).decode('ascii')}"


def _assertion(client: ClientCredentials, *, audience: str, now: datetime) -> str:
    if client.signing_key is None:
        raise _unusable("private_key_jwt without a signing key")
    issued_at = int(now.timestamp())
    claims = {
        "iss": client.client_id,
        "sub": client.client_id,
        "aud": audience,
        "jti": secrets.token_urlsafe(16),
        "iat": issued_at,
        "exp": issued_at + _ASSERTION_LIFETIME_SECONDS,
    }
    key = ECKey.import_key(dict(client.signing_key.jwk))
    header = {"alg": SIGNING_ALGORITHM, "kid": client.signing_key.kid}
    return jwt.encode(header, claims, key, algorithms=[SIGNING_ALGORITHM])


def _secret(client: ClientCredentials) -> Secret:
    if not client.client_secret:
        raise _unusable(f"{client.auth_method} without a client secret")
    return client.client_secret


def _unusable(detail: str) -> InvalidRequestError:
    return InvalidRequestError(detail, code=Code.INVALID_CLIENT)
