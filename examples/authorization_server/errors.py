"""What goes wrong: answered as JSON to a program, as a page to a person."""

from __future__ import annotations

from typing import cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .pages import page


class OAuthError(Exception):
    """A refusal a program reads. RFC 6749 §5.2."""

    def __init__(self, code: str, description: str, *, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.status = status


class PageError(Exception):
    """A refusal a person reads: nobody is sent anywhere, since nobody is known who could be trusted with it."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


async def oauth_error_response(_request: Request, exception: Exception) -> Response:
    """Answer an `OAuthError`."""
    error = cast(OAuthError, exception)
    headers = {"Cache-Control": "no-store"}
    if error.status == 401:
        # RFC 6749 §5.2: a client that tried the header learns which scheme the header takes.
        headers["WWW-Authenticate"] = 'Basic realm="clients"' if error.code == "invalid_client" else "Bearer"
    content = {"error": error.code, "error_description": error.description}
    return JSONResponse(content, status_code=error.status, headers=headers)


async def page_error_response(request: Request, exception: Exception) -> Response:
    """Answer a `PageError`."""
    error = cast(PageError, exception)
    return page(request, "message", title="This cannot go on", status=error.status, message=error.message)
