"""The programs that may ask for access: how they are kept and how they prove who they are."""

from __future__ import annotations

import base64
import hmac
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_plus, urlsplit

from starlette.requests import Request

from .database import hashed, seconds_now
from .errors import OAuthError

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Client:
    """One registered client; without `secret_hash` a public one."""

    client_id: str
    name: str
    redirect_uris: tuple[str, ...]
    grant_types: tuple[str, ...]
    secret_hash: str | None = None
    registration_token_hash: str | None = None

    def accepts(self, redirect_uri: str) -> bool:
        """Say whether answers may go there: the same text, or another port of this machine. RFC 8252 §7.3."""
        return any(
            redirect_uri == registered or _without_loopback_port(redirect_uri) == _without_loopback_port(registered)
            for registered in self.redirect_uris
        )


def is_allowed_redirect_uri(uri: str) -> bool:
    """Say whether a client may register `uri`: https, or http on this machine. OAuth 2.1 §1.5, §2.3."""
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return False
    if parts.fragment or "@" in parts.netloc or not parts.hostname or not uri.isprintable() or " " in uri:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _without_loopback_port(uri: str) -> str:
    parts = urlsplit(uri)
    if not is_allowed_redirect_uri(uri) or parts.scheme != "http":
        return uri
    return parts._replace(netloc=str(parts.hostname)).geturl()


def save_client(database: sqlite3.Connection, client: Client) -> None:
    """Insert the client, or replace what is known of it while its grants stay."""
    with database:
        database.execute(
            "INSERT INTO clients VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (client_id) DO UPDATE"
            " SET secret_hash = excluded.secret_hash, redirect_uris = excluded.redirect_uris",
            (
                client.client_id,
                client.secret_hash,
                client.registration_token_hash,
                client.name,
                json.dumps(client.redirect_uris),
                json.dumps(client.grant_types),
                seconds_now(),
            ),
        )


def find_client(database: sqlite3.Connection, client_id: str) -> Client | None:
    """Return the client, or None."""
    row = database.execute("SELECT * FROM clients WHERE client_id = ?", (client_id,)).fetchone()
    if row is None:
        return None
    return Client(
        client_id=row["client_id"],
        name=row["name"],
        redirect_uris=tuple(json.loads(row["redirect_uris"])),
        grant_types=tuple(json.loads(row["grant_types"])),
        secret_hash=row["secret_hash"],
        registration_token_hash=row["registration_token_hash"],
    )


def delete_client(database: sqlite3.Connection, client_id: str) -> None:
    """Forget the client with everything granted to it."""
    with database:
        database.execute("DELETE FROM clients WHERE client_id = ?", (client_id,))


def authenticate_client(request: Request, *, form: Mapping[str, str]) -> Client:
    """Return the client that sent a request, proven by Basic, by form, or public by its id alone.

    Raises:
        OAuthError: `invalid_client`, status 401, without saying what was wrong.

    Spec: RFC 6749 §2.3.1, §3.2.1.
    """
    client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    basic = basic_credentials(request)
    if basic:
        if secret or client_id not in ("", basic.user):
            raise OAuthError("invalid_request", "the client authenticated in two ways")
        client_id, secret = basic.user, basic.secret
    client = find_client(request.app.state.database, client_id)
    refused = OAuthError("invalid_client", "unknown client or wrong authentication", status=401)
    if client is None or bool(client.secret_hash) != bool(secret):
        raise refused
    if client.secret_hash and not hmac.compare_digest(client.secret_hash, hashed(secret)):
        raise refused
    return client


@dataclass(frozen=True, slots=True)
class BasicCredentials:
    """User and secret out of an `Authorization: Basic` header."""

    user: str
    secret: str


def basic_credentials(request: Request) -> BasicCredentials | None:
    """Return the header's credentials, or None where there is no such header.

    Both parts are form-encoded before they are joined, RFC 6749 §2.3.1.
    """
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        raise OAuthError("invalid_client", "the Basic header cannot be read", status=401) from None
    return BasicCredentials(unquote_plus(user), unquote_plus(secret))
