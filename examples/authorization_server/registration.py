"""Programs register themselves, and take that back. RFC 7591, RFC 7592."""

from __future__ import annotations

import hmac
import json
import secrets
import sqlite3
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .clients import Client, delete_client, find_client, is_allowed_redirect_uri, save_client
from .configuration import SCOPES, Configuration
from .database import hashed, new_secret, seconds_now
from .errors import OAuthError

AUTH_METHODS = ("none", "client_secret_basic", "client_secret_post")
GRANT_TYPES = ("authorization_code", "refresh_token")
_DEFAULT_AUTH_METHOD = "client_secret_basic"
_ECHOED = ("client_uri", "logo_uri", "contacts", "software_id", "software_version", "application_type")


async def register(request: Request) -> Response:
    """Make a client from the metadata it sends. RFC 7591 §3."""
    configuration: Configuration = request.app.state.configuration
    sent = _read_document(await request.body())
    metadata = _accepted(sent)
    client_id = f"client-{secrets.token_hex(8)}"
    secret = None if metadata["token_endpoint_auth_method"] == "none" else new_secret()
    registration_token = new_secret()
    save_client(
        request.app.state.database,
        Client(
            client_id=client_id,
            name=str(metadata["client_name"]),
            redirect_uris=tuple(_texts(sent, "redirect_uris", default=())),
            grant_types=tuple(_texts(metadata, "grant_types", default=())),
            secret_hash=secret and hashed(secret),
            registration_token_hash=hashed(registration_token),
        ),
    )
    issued: dict[str, object] = {"client_id": client_id, "client_id_issued_at": seconds_now()}
    if secret:
        issued |= {"client_secret": secret, "client_secret_expires_at": 0}
    management = {
        "registration_client_uri": f"{configuration.issuer}/register/{client_id}",
        "registration_access_token": registration_token,
    }
    return JSONResponse(metadata | issued | management, status_code=201, headers={"Cache-Control": "no-store"})


async def delete_registration(request: Request) -> Response:
    """Forget the client that asks for it, with all its grants. RFC 7592 §2.3."""
    database: sqlite3.Connection = request.app.state.database
    client = find_client(database, request.path_params["client_id"])
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    known = client.registration_token_hash if client else None
    if client is None or scheme.lower() != "bearer" or not hmac.compare_digest(known or "", hashed(token)):
        raise OAuthError("invalid_token", "not the registration access token of this client", status=401)
    delete_client(database, client.client_id)
    return Response(status_code=204)


def _read_document(body: bytes) -> Mapping[str, object]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise OAuthError("invalid_client_metadata", "the body has to be a JSON object")
    return document


def _accepted(sent: Mapping[str, object]) -> dict[str, object]:
    """Return the metadata as registered: what was asked, with this server's defaults where nothing was."""
    redirect_uris = _texts(sent, "redirect_uris", default=())
    if not redirect_uris or not all(map(is_allowed_redirect_uri, redirect_uris)):
        raise OAuthError("invalid_redirect_uri", "redirect_uris need https, or http on this machine")
    method = sent.get("token_endpoint_auth_method", _DEFAULT_AUTH_METHOD)
    if method not in AUTH_METHODS:
        raise OAuthError("invalid_client_metadata", f"token_endpoint_auth_method is one of {', '.join(AUTH_METHODS)}")
    grant_types = _texts(sent, "grant_types", default=("authorization_code",))
    if "authorization_code" not in grant_types:
        raise OAuthError("invalid_client_metadata", "grant_types need authorization_code")
    if "code" not in _texts(sent, "response_types", default=("code",)):
        raise OAuthError("invalid_client_metadata", "response_types need code")
    name = sent.get("client_name")
    scope = sent.get("scope")
    return {name: sent[name] for name in _ECHOED if name in sent} | {
        "client_name": name[:100] if isinstance(name, str) and name else "a program without a name",
        "redirect_uris": redirect_uris,
        "token_endpoint_auth_method": method,
        # RFC 7591 §3.2.1: a server may leave out what it does not do, and says so in its answer.
        "grant_types": [kind for kind in grant_types if kind in GRANT_TYPES],
        "response_types": ["code"],
        "scope": " ".join(word for word in (scope.split() if isinstance(scope, str) else SCOPES) if word in SCOPES),
    }


def _texts(document: Mapping[str, object], name: str, *, default: tuple[str, ...]) -> list[str]:
    value = document.get(name, list(default))
    if not isinstance(value, list) or len(value) > 20 or not all(isinstance(item, str) for item in value):
        raise OAuthError("invalid_client_metadata", f"{name} has to be a short list of texts")
    return value
