"""What this server is and where its endpoints are. RFC 8414."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .configuration import SCOPES, Configuration
from .registration import AUTH_METHODS, GRANT_TYPES


def metadata_path(configuration: Configuration) -> str:
    """Return where the document is: before the issuer's path, not behind it. RFC 8414 §3.1."""
    return f"/.well-known/oauth-authorization-server{configuration.base_path}"


async def metadata(request: Request) -> Response:
    """Answer with the document; `issuer` is letter for letter what clients built this address from."""
    configuration: Configuration = request.app.state.configuration
    issuer = configuration.issuer
    return JSONResponse(
        {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "registration_endpoint": f"{issuer}/register",
            "revocation_endpoint": f"{issuer}/revoke",
            "introspection_endpoint": f"{issuer}/introspect",
            "scopes_supported": list(SCOPES),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": list(GRANT_TYPES),
            "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
            "revocation_endpoint_auth_methods_supported": list(AUTH_METHODS),
            "introspection_endpoint_auth_methods_supported": ["client_secret_basic"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        },
        headers={"Cache-Control": "public, max-age=60"},
    )
