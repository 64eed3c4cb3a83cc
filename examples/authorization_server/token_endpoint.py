"""Codes and refresh tokens become access tokens. OAuth 2.1 §4.1.3, §4.3."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import sqlite3
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .clients import Client, authenticate_client
from .configuration import OFFLINE_ACCESS, Configuration
from .database import purge_expired
from .errors import OAuthError
from .grants import Kind, Token, find_token, issue_token, revoke_grant, spend_token
from .parameters import program_form

_log = logging.getLogger(__name__)
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


async def token(request: Request) -> Response:
    """Answer a code or refresh request."""
    configuration: Configuration = request.app.state.configuration
    database: sqlite3.Connection = request.app.state.database
    form = await program_form(request)
    client = authenticate_client(request, form=form)
    purge_expired(database)
    match form.get("grant_type"):
        case "authorization_code":
            spent = _redeem_code(database, form, client=client)
        case "refresh_token":
            spent = _redeem_refresh_token(database, form, client=client)
        case _:
            raise OAuthError("unsupported_grant_type", "grant_type is authorization_code or refresh_token")
    scope = _narrowed_scope(form.get("scope", ""), granted=spent.grant.scope)
    spend_token(database, spent)
    return _tokens(configuration, database, spent, scope=scope, client=client)


def _redeem_code(database: sqlite3.Connection, form: Mapping[str, str], *, client: Client) -> Token:
    code = _unspent(database, form.get("code", ""), kind="code", client=client)
    _check_resource(form, token=code)
    if form.get("redirect_uri") != code.redirect_uri:
        raise OAuthError("invalid_grant", "redirect_uri is not the one of the authorization request")
    if not _proves(form.get("code_verifier", ""), challenge=code.code_challenge):
        raise OAuthError("invalid_grant", "code_verifier does not fit the code_challenge")
    return code


def _redeem_refresh_token(database: sqlite3.Connection, form: Mapping[str, str], *, client: Client) -> Token:
    refresh_token = _unspent(database, form.get("refresh_token", ""), kind="refresh", client=client)
    _check_resource(form, token=refresh_token)
    return refresh_token


def _unspent(database: sqlite3.Connection, text: str, *, kind: Kind, client: Client) -> Token:
    """Return the client's own token; one shown a second time ends its whole family. RFC 9700 §2.1.1, §4.14.2."""
    token = find_token(database, text, kind=kind)
    if token is None or token.grant.client_id != client.client_id:
        raise OAuthError("invalid_grant", f"the {kind} token or code is unknown, expired or revoked")
    if token.spent:
        _log.warning("a %s token or code was used twice; all of its grant is revoked", kind)
        revoke_grant(database, grant_id=token.grant.grant_id)
        raise OAuthError("invalid_grant", f"the {kind} token or code was used before; all of its grant is revoked")
    return token


def _check_resource(form: Mapping[str, str], *, token: Token) -> None:
    if form.get("resource", token.grant.resource) != token.grant.resource:
        raise OAuthError("invalid_target", "resource is not the one of the authorization request")


def _proves(verifier: str, *, challenge: str) -> bool:
    """Compute S256 of the verifier and compare. RFC 7636 §4.6."""
    digest = hashlib.sha256(verifier.encode()).digest()
    computed = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return bool(_VERIFIER.fullmatch(verifier)) and hmac.compare_digest(computed, challenge)


def _narrowed_scope(asked: str, *, granted: str) -> str:
    if not set(asked.split()) <= set(granted.split()):
        raise OAuthError("invalid_scope", "scope is more than was granted")
    return asked or granted


def _tokens(
    configuration: Configuration, database: sqlite3.Connection, spent: Token, *, scope: str, client: Client
) -> Response:
    """Make the access token, and a new refresh token in place of the one just used."""
    grant = spent.grant
    seconds = configuration.access_token_seconds
    content: dict[str, object] = {
        "access_token": issue_token(
            database, kind="access", grant_id=grant.grant_id, scope=scope, lifetime_seconds=seconds
        ),
        "token_type": "Bearer",
        "expires_in": seconds,
        "scope": scope,
    }
    if OFFLINE_ACCESS in grant.scope.split() and "refresh_token" in client.grant_types:
        content["refresh_token"] = issue_token(
            database,
            kind="refresh",
            grant_id=grant.grant_id,
            scope=grant.scope,
            lifetime_seconds=configuration.refresh_token_seconds,
        )
    return JSONResponse(content, headers={"Cache-Control": "no-store"})
