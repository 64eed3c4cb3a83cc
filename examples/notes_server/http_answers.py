"""Two answers that the SDK does not give by itself: 403 for one tool's missing scope, and 503."""

from __future__ import annotations

import json

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import scopes
from .introspection import IntrospectionUnavailableError


class UnavailableMiddleware:
    """Says 503 while the authorization server cannot be asked; a 401 would cost people their logins."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except IntrospectionUnavailableError:
            response = JSONResponse({"error": "temporarily_unavailable"}, status_code=503, headers={"Retry-After": "5"})
            await response(scope, receive, send)


class ToolScopeMiddleware:
    """Says 403 with the scope that a call lacks, so that a client can ask for it and call again.

    It stands inside the SDK's authentication, which has put the token's scopes into the ASGI scope, and outside the
    SDK's transport, whose message it reads ahead.
    """

    def __init__(self, app: ASGIApp, *, resource_metadata_url: str) -> None:
        self.app = app
        self.resource_metadata_url = resource_metadata_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = scope.get("user")
        if scope["type"] != "http" or scope["method"] != "POST" or not isinstance(user, AuthenticatedUser):
            await self.app(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        missing = sorted(_scopes_needed(body) - set(user.scopes))
        if missing:
            await self._refusal(" ".join(missing))(scope, receive, send)
            return
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        await self.app(scope, replay, send)

    def _refusal(self, missing: str) -> JSONResponse:
        """RFC 6750 §3.1; the challenge names all scopes of the operation."""
        challenge = (
            f'Bearer error="insufficient_scope", scope="{missing}", '
            f'error_description="This call needs more than was granted", '
            f'resource_metadata="{self.resource_metadata_url}"'
        )
        content = {"error": "insufficient_scope", "scope": missing}
        return JSONResponse(content, status_code=403, headers={"WWW-Authenticate": challenge})


def _scopes_needed(body: bytes) -> set[str]:
    """Read the calls out of a JSON-RPC message or batch; what cannot be read is the transport's to refuse."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return set()
    messages = document if isinstance(document, list) else [document]
    return {needed for message in messages if (needed := _scope_needed(message))}


def _scope_needed(message: object) -> str:
    params = message.get("params") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(params, dict):
        return ""
    if message.get("method") == "tools/call":
        return scopes.OF_TOOL.get(str(params.get("name")), "")
    return scopes.of_resource(str(params.get("uri"))) if message.get("method") == "resources/read" else ""
