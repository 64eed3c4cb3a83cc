"""Your grants: a person sees who may act for them, and takes it back."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from .accounts import signed_in_subject, to_login
from .clients import find_client
from .configuration import Configuration
from .database import purge_expired
from .grants import Grant, grants_of, revoke_grant
from .pages import Markup, fragment, page
from .parameters import own_form


async def show_grants(request: Request) -> Response:
    """List the grants of the person who is signed in."""
    database: sqlite3.Connection = request.app.state.database
    subject = signed_in_subject(request)
    if subject is None:
        return to_login(request)
    purge_expired(database)
    rows = [_row(request, grant) for grant in grants_of(database, subject=subject)]
    nothing = Markup("<li>Nobody.</li>")
    return page(request, "grants", title="Your grants", subject=subject, grants=Markup("".join(rows)) or nothing)


async def revoke_from_page(request: Request) -> Response:
    """Revoke one of the person's own grants; the number of anybody else's does nothing."""
    configuration: Configuration = request.app.state.configuration
    database: sqlite3.Connection = request.app.state.database
    form = await own_form(request)
    subject = signed_in_subject(request)
    if subject is None:
        return to_login(request)
    for grant in grants_of(database, subject=subject):
        if str(grant.grant_id) == form.get("grant"):
            revoke_grant(database, grant_id=grant.grant_id)
    return RedirectResponse(f"{configuration.issuer}/grants", status_code=303)


def _row(request: Request, grant: Grant) -> Markup:
    configuration: Configuration = request.app.state.configuration
    client = find_client(request.app.state.database, grant.client_id)
    return fragment(
        "grant",
        base=configuration.base_path,
        client=client.name if client else grant.client_id,
        scope=grant.scope,
        resource=grant.resource or "no particular server",
        since=datetime.fromtimestamp(grant.granted_at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        grant=str(grant.grant_id),
    )
