"""Everything put together: which address is answered by what."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from mcp.server.transport_security import RequestBodyLimitMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from .accounts import show_login, sign_in, sign_out
from .authorize import authorize
from .clients import Client, save_client
from .configuration import CLIENT_ID, CLIENT_SECRET, Configuration
from .consent import decide, show_consent
from .database import hashed, open_database
from .errors import OAuthError, PageError, oauth_error_response, page_error_response
from .grants_page import revoke_from_page, show_grants
from .introspection import introspect
from .metadata import metadata, metadata_path
from .registration import GRANT_TYPES, delete_registration, register
from .revocation import revoke
from .token_endpoint import token

_MAX_BODY_BYTES = 64 * 1024
# Programs in browsers use these addresses from other origins. Pages for people are not among them.
_CORS = [
    Middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "MCP-Protocol-Version"],
    )
]


def create_app(configuration: Configuration) -> Starlette:
    """Build the server and open its database, with the pre-registered client in it."""
    base = configuration.base_path
    app = Starlette(
        routes=[
            Route(metadata_path(configuration), metadata, methods=["GET", "OPTIONS"], middleware=_CORS),
            Mount(base, routes=[*_program_routes(), *_page_routes()]),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=[urlsplit(configuration.issuer).hostname or ""]),
            Middleware(RequestBodyLimitMiddleware, max_body_size=_MAX_BODY_BYTES),
        ],
        exception_handlers={OAuthError: oauth_error_response, PageError: page_error_response},
    )
    app.state.configuration = configuration
    app.state.database = open_database(configuration.data_dir / "authorization-server.sqlite3")
    save_client(
        app.state.database,
        Client(
            client_id=CLIENT_ID,
            name="MCP test client",
            redirect_uris=configuration.redirect_uris,
            grant_types=GRANT_TYPES,
            secret_hash=hashed(CLIENT_SECRET),
        ),
    )
    return app


def _program_routes() -> list[Route]:
    return [
        Route("/token", token, methods=["POST", "OPTIONS"], middleware=_CORS),
        Route("/register", register, methods=["POST", "OPTIONS"], middleware=_CORS),
        Route("/register/{client_id}", delete_registration, methods=["DELETE", "OPTIONS"], middleware=_CORS),
        Route("/revoke", revoke, methods=["POST", "OPTIONS"], middleware=_CORS),
        Route("/introspect", introspect, methods=["POST"]),
    ]


def _page_routes() -> list[Route | Mount]:
    return [
        Route("/", _home),
        Route("/authorize", authorize),
        Route("/login", show_login),
        Route("/login", sign_in, methods=["POST"]),
        Route("/logout", sign_out, methods=["POST"]),
        Route("/consent", show_consent),
        Route("/consent", decide, methods=["POST"]),
        Route("/grants", show_grants),
        Route("/grants/revoke", revoke_from_page, methods=["POST"]),
        Mount("/static", StaticFiles(directory=Path(__file__).with_name("static"))),
    ]


async def _home(request: Request) -> Response:
    configuration: Configuration = request.app.state.configuration
    return RedirectResponse(f"{configuration.issuer}/grants", status_code=303)
