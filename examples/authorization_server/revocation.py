"""A client gives a token back. RFC 7009."""

from __future__ import annotations

import sqlite3

from starlette.requests import Request
from starlette.responses import Response

from .clients import authenticate_client
from .grants import find_token, revoke_grant, revoke_token
from .parameters import program_form


async def revoke(request: Request) -> Response:
    """End the client's own token: a refresh token with its whole grant, an access token alone.

    Any other token is answered in the same way, so that nobody learns which tokens exist. RFC 7009 §2.2.
    """
    database: sqlite3.Connection = request.app.state.database
    form = await program_form(request)
    client = authenticate_client(request, form=form)
    text = form.get("token", "")
    refresh_token = find_token(database, text, kind="refresh")
    access_token = find_token(database, text, kind="access")
    if refresh_token and refresh_token.grant.client_id == client.client_id:
        revoke_grant(database, grant_id=refresh_token.grant.grant_id)
    if access_token and access_token.grant.client_id == client.client_id:
        revoke_token(database, access_token)
    return Response(status_code=200, headers={"Cache-Control": "no-store"})
