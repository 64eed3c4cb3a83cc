"""The MCP server: over stdio for whoever started it, over HTTP as an OAuth protected resource."""

from __future__ import annotations

from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import RequestBodyLimitMiddleware
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.middleware import Middleware

from . import scopes
from .http_answers import ToolScopeMiddleware, UnavailableMiddleware
from .identity import identity_of_environment, identity_of_token
from .notebook import Notebook
from .store import NoteStore

_NAME = "notes"
_INSTRUCTIONS = "Keeps short notes for the person who signed in."
_MAX_BODY_BYTES = 1024 * 1024


def stdio_server(store: NoteStore) -> MCPServer:
    """Build the server for one local user. Nothing here is OAuth: stdio has no place for it."""
    server = MCPServer(_NAME, instructions=_INSTRUCTIONS, log_level="WARNING")
    Notebook(store, identify=identity_of_environment).register(server)
    return server


def streamable_http_app(store: NoteStore, *, auth: AuthSettings, token_verifier: TokenVerifier, host: str) -> Starlette:
    """Build the server for `/mcp`: handshake-era sessions and 2026-07-28 requests on one address."""
    server = _protected_server(store, auth=auth, token_verifier=token_verifier)
    app = server.streamable_http_app(host=host)
    url = str(build_resource_metadata_url(_resource_url(auth)))
    app.user_middleware += [
        Middleware(RequestBodyLimitMiddleware, max_body_size=_MAX_BODY_BYTES),
        Middleware(ToolScopeMiddleware, resource_metadata_url=url),
    ]
    return _with_metadata(app, auth=auth)


def sse_app(store: NoteStore, *, auth: AuthSettings, token_verifier: TokenVerifier, host: str) -> Starlette:
    """Build the server for the older transport at `/sse`.

    Answers there come over the stream and not over the POST, so a missing scope is a tool error instead of a 403.
    """
    server = _protected_server(store, auth=auth, token_verifier=token_verifier)
    return _with_metadata(server.sse_app(host=host), auth=auth)


def auth_settings(*, issuer: str, resource: str) -> AuthSettings:
    """Describe the protected resource. As texts, since both are compared letter for letter by clients."""
    return AuthSettings.model_validate(
        {"issuer_url": issuer, "resource_server_url": resource, "validate_token_resource": True}
    )


def _protected_server(store: NoteStore, *, auth: AuthSettings, token_verifier: TokenVerifier) -> MCPServer:
    server = MCPServer(_NAME, instructions=_INSTRUCTIONS, auth=auth, token_verifier=token_verifier, log_level="WARNING")
    Notebook(store, identify=identity_of_token).register(server)
    return server


def _with_metadata(app: Starlette, *, auth: AuthSettings) -> Starlette:
    """Serve RFC 9728 metadata with our scopes.

    The SDK's own document lists the scopes that every request needs. Ours differ by tool, so this one goes in front.
    """
    app.router.routes[:0] = create_protected_resource_routes(
        _resource_url(auth), [auth.issuer_url], scopes.ALL, resource_name="Demonstration notes"
    )
    app.add_middleware(UnavailableMiddleware)
    return app


def _resource_url(auth: AuthSettings) -> AnyHttpUrl:
    if auth.resource_server_url is None:
        raise ValueError("a protected resource has a URL")
    return auth.resource_server_url
