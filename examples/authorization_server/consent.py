"""The consent page: who asks, for what, and where the answer goes."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from .accounts import signed_in_subject, to_login
from .authorize import answer
from .clients import find_client
from .configuration import SCOPES, Configuration
from .database import hashed, seconds_now
from .errors import PageError
from .grants import create_grant, issue_token
from .pages import Markup, fragment, page
from .parameters import own_form


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """An authorization request that waits for a person's decision."""

    hash: str
    client_id: str
    redirect_uri: str
    state: str
    scope: str
    resource: str
    code_challenge: str
    expires_at: int


async def show_consent(request: Request) -> Response:
    """Ask the person who is signed in; ask each time, also for what was granted before."""
    key = request.query_params.get("request", "")
    pending = _pending_request(request.app.state.database, key=key)
    subject = signed_in_subject(request)
    if subject is None:
        return to_login(request, pending=key)
    client = find_client(request.app.state.database, pending.client_id)
    scopes = [fragment("scope", scope=scope, description=SCOPES[scope]) for scope in pending.scope.split(" ")]
    return page(
        request,
        "consent",
        title="Allow access?",
        subject=subject,
        client=client.name if client else pending.client_id,
        resource=f" to {pending.resource}" if pending.resource else "",
        scopes=Markup("".join(scopes)),
        host=urlsplit(pending.redirect_uri).netloc,
        pending=key,
    )


async def decide(request: Request) -> Response:
    """Take the decision, once, and tell the client."""
    configuration: Configuration = request.app.state.configuration
    database: sqlite3.Connection = request.app.state.database
    form = await own_form(request)
    pending = _pending_request(database, key=form.get("request", ""))
    subject = signed_in_subject(request)
    if subject is None:
        return to_login(request, pending=form["request"])
    with database:
        database.execute("DELETE FROM requests WHERE hash = ?", (pending.hash,))
    outcome = {"error": "access_denied", "error_description": "the person said no"}
    if form.get("decision") == "allow":
        outcome = {"code": _code_for(database, pending, subject=subject, lifetime_seconds=configuration.code_seconds)}
    return answer(configuration, redirect_uri=pending.redirect_uri, state=pending.state, outcome=outcome)


def _code_for(database: sqlite3.Connection, pending: PendingRequest, *, subject: str, lifetime_seconds: int) -> str:
    grant_id = create_grant(
        database, client_id=pending.client_id, subject=subject, scope=pending.scope, resource=pending.resource
    )
    return issue_token(
        database,
        kind="code",
        grant_id=grant_id,
        scope=pending.scope,
        lifetime_seconds=lifetime_seconds,
        redirect_uri=pending.redirect_uri,
        code_challenge=pending.code_challenge,
    )


def _pending_request(database: sqlite3.Connection, *, key: str) -> PendingRequest:
    row = database.execute(
        "SELECT * FROM requests WHERE hash = ? AND expires_at > ?", (hashed(key), seconds_now())
    ).fetchone()
    if row is None:
        raise PageError("This request was answered already, or has waited too long. Start again where you came from.")
    return PendingRequest(**dict(row))
