"""A resource server asks what a token is worth. RFC 7662."""

from __future__ import annotations

import hmac

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .clients import basic_credentials
from .configuration import RESOURCE_SERVER_ID, Configuration
from .errors import OAuthError
from .grants import find_token
from .parameters import program_form


async def introspect(request: Request) -> Response:
    """Describe a usable access token; of everything else say only that it is not active. RFC 7662 §2.2."""
    configuration: Configuration = request.app.state.configuration
    _require_resource_server(request, secret=configuration.resource_server_secret)
    form = await program_form(request)
    token = find_token(request.app.state.database, form.get("token", ""), kind="access")
    content: dict[str, object] = {"active": False}
    if token is not None:
        content = {
            "active": True,
            "iss": configuration.issuer,
            "sub": token.grant.subject,
            "username": token.grant.subject,
            "client_id": token.grant.client_id,
            "scope": token.scope,
            "exp": token.expires_at,
            "token_type": "Bearer",
        }
        # A token without an audience is for nobody: resource servers have to refuse it.
        content |= {"aud": token.grant.resource} if token.grant.resource else {}
    return JSONResponse(content, headers={"Cache-Control": "no-store"})


def _require_resource_server(request: Request, *, secret: str) -> None:
    """Let in resource servers only: a client could otherwise try out tokens it found. RFC 7662 §2.1."""
    sent = basic_credentials(request)
    if not sent or sent.user != RESOURCE_SERVER_ID or not hmac.compare_digest(sent.secret.encode(), secret.encode()):
        raise OAuthError("invalid_client", "introspection is for resource servers", status=401)
