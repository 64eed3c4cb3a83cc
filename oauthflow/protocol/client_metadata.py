"""The metadata by which we present ourselves: in a registration, and as a document of our own."""

from __future__ import annotations

from .client_auth import AUTH_METHODS, NONE, PRIVATE_KEY_JWT
from .errors import FlowError, InvalidRequestError
from .signing_key import SIGNING_ALGORITHM
from .urls import parse_http_url

GRANT_TYPES = ("authorization_code", "refresh_token")


def client_metadata(
    *,
    client_name: str,
    redirect_uri: str,
    client_uri: str,
    scope: str = "",
    auth_method: str = NONE,
    jwks_uri: str | None = None,
    web: bool,
) -> dict[str, object]:
    """Return our client metadata, ready for JSON.

    Args:
        client_name: What a person reads on a consent page.
        redirect_uri: Our only one.
        client_uri: Our home page; left out when empty.
        scope: Space-separated; left out when empty.
        auth_method: Token endpoint authentication method to register.
        jwks_uri: Where our public keys are; needed for `private_key_jwt`, left out otherwise.
        web: Whether we are served from a public host; `native` on a loopback host.

    Raises:
        InvalidRequestError: An unknown method, or `private_key_jwt` without `jwks_uri`.

    Spec: RFC 7591 §2, OpenID Connect Dynamic Client Registration §2. R-16, R-22.
    """
    if auth_method not in AUTH_METHODS:
        raise InvalidRequestError("token endpoint authentication method unknown")
    document: dict[str, object] = {
        "client_name": client_name,
        "redirect_uris": [redirect_uri],
        "grant_types": list(GRANT_TYPES),
        "response_types": ["code"],
        "token_endpoint_auth_method": auth_method,
        "application_type": "web" if web else "native",
    }
    if client_uri:
        document["client_uri"] = client_uri
    if scope:
        document["scope"] = scope
    if auth_method == PRIVATE_KEY_JWT:
        if not jwks_uri:
            raise InvalidRequestError("private_key_jwt without jwks_uri")
        document["jwks_uri"] = jwks_uri
        document["token_endpoint_auth_signing_alg"] = SIGNING_ALGORITHM
    return document


def client_metadata_document(
    *,
    client_id: str,
    client_name: str,
    redirect_uri: str,
    client_uri: str,
    scope: str = "",
    auth_method: str = NONE,
    jwks_uri: str | None = None,
    web: bool,
) -> dict[str, object]:
    """Return our Client ID Metadata Document, to be served at `client_id`.

    Args:
        client_id: The https URL of this very document, with a path.
        client_name: As in `client_metadata`.
        redirect_uri: As in `client_metadata`.
        client_uri: As in `client_metadata`.
        scope: As in `client_metadata`.
        auth_method: `none` or `private_key_jwt`: a public document cannot agree on a secret.
        jwks_uri: As in `client_metadata`.
        web: As in `client_metadata`.

    Raises:
        InvalidRequestError: `client_id` cannot be such a URL, or the method needs a secret.

    Spec: Client ID Metadata Document draft-00 §3, §4. R-05, R-06, R-07, R-22.
    """
    if not is_metadata_document_url(client_id):
        raise InvalidRequestError("a client metadata document needs an https URL with a path")
    if auth_method not in {NONE, PRIVATE_KEY_JWT}:
        raise InvalidRequestError("a client metadata document cannot have a client secret")
    metadata = client_metadata(
        client_name=client_name,
        redirect_uri=redirect_uri,
        client_uri=client_uri,
        scope=scope,
        auth_method=auth_method,
        jwks_uri=jwks_uri,
        web=web,
    )
    return {"client_id": client_id, **metadata}


def is_metadata_document_url(url: str) -> bool:
    """Tell whether a URL can be a client id: https, a path, no dot segments, no query, fragment or user name.

    Spec: Client ID Metadata Document draft-00 §3. R-05.
    """
    try:
        parsed = parse_http_url(url)
    except FlowError:
        return False
    return parsed.scheme == "https" and parsed.path not in {"", "/"} and "?" not in url
