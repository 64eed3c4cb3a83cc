"""The authorization endpoint: judge the request, then let the person decide. OAuth 2.1 §4.1.1."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from .clients import find_client
from .configuration import DEFAULT_SCOPE, SCOPES, Configuration
from .database import hashed, new_secret, purge_expired, seconds_now
from .errors import OAuthError, PageError
from .parameters import single_values, with_query

_S256_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


async def authorize(request: Request) -> Response:
    """Keep a sound request and go on to the consent page; tell the client what is wrong with any other."""
    configuration: Configuration = request.app.state.configuration
    database: sqlite3.Connection = request.app.state.database
    purge_expired(database)
    try:
        parameters = single_values(request.query_params.multi_items())
    except OAuthError as error:
        raise PageError(error.description) from error
    # First whom we may answer: until client and redirect URI are known to belong together, nobody is redirected.
    client = find_client(database, parameters.get("client_id", ""))
    redirect_uri = parameters.get("redirect_uri", "")
    if client is None:
        raise PageError("No such client is registered here. Let the program register again.")
    if not client.accepts(redirect_uri):
        raise PageError("This client is not registered with that redirect URI.")
    state = parameters.get("state", "")
    try:
        scope, resource = _judged(parameters, resources=configuration.resources)
    except OAuthError as error:
        refusal = {"error": error.code, "error_description": error.description}
        return answer(configuration, redirect_uri=redirect_uri, state=state, outcome=refusal)
    pending = new_secret()
    expires_at = seconds_now() + configuration.request_seconds
    with database:
        database.execute(
            "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                hashed(pending),
                client.client_id,
                redirect_uri,
                state,
                scope,
                resource,
                parameters["code_challenge"],
                expires_at,
            ),
        )
    return RedirectResponse(with_query(f"{configuration.issuer}/consent", {"request": pending}), status_code=303)


def answer(
    configuration: Configuration, *, redirect_uri: str, state: str, outcome: Mapping[str, str]
) -> RedirectResponse:
    """Send the browser back to the client. Every answer names its issuer, refusals too. RFC 9207 §2."""
    parameters = dict(outcome) | ({"state": state} if state else {}) | {"iss": configuration.issuer}
    return RedirectResponse(
        with_query(redirect_uri, parameters), status_code=303, headers={"Cache-Control": "no-store"}
    )


def _judged(parameters: Mapping[str, str], *, resources: tuple[str, ...]) -> tuple[str, str]:
    """Return the scope and the resource of a request that may go on."""
    if parameters.get("response_type") != "code":
        raise OAuthError("unsupported_response_type", "response_type has to be code")
    # A missing method would mean "plain" (RFC 7636 §4.3), which OAuth 2.1 leaves no place for.
    if parameters.get("code_challenge_method") != "S256":
        raise OAuthError("invalid_request", "code_challenge_method has to be S256")
    if not _S256_CHALLENGE.fullmatch(parameters.get("code_challenge", "")):
        raise OAuthError("invalid_request", "code_challenge has to be 43 base64url characters")
    scope = parameters.get("scope") or DEFAULT_SCOPE
    if unknown := set(scope.split(" ")) - set(SCOPES):
        raise OAuthError("invalid_scope", f"unknown scopes: {len(unknown)}")
    return scope, _judged_resource(parameters.get("resource", ""), resources=resources)


def _judged_resource(resource: str, *, resources: tuple[str, ...]) -> str:
    """Return the one resource the token will be for. RFC 8707 §2; clients older than it send none."""
    if not resource:
        return resources[0] if len(resources) == 1 else ""
    parts = urlsplit(resource)
    known = resource in resources if resources else bool(parts.scheme and parts.netloc and not parts.fragment)
    if not known:
        raise OAuthError("invalid_target", "this server gives no tokens for that resource")
    return resource
