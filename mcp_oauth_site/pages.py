"""Fixed answers for errors that no view handled: JSON below the API, a plain page elsewhere, and never a cause."""

from __future__ import annotations

import sys

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string

from audit.correlation import correlation_id
from audit.deferred import NOT_WRITABLE
from oauthflow.error_responses import DATABASE_RETRY_SECONDS

_MESSAGES = {
    400: ("invalid_request", "The request is not valid."),
    403: ("access_denied", "You are not allowed to do this, or the page was open for too long. Go back and try again."),
    404: ("not_found", "There is nothing at this address."),
    500: ("server_error", "Something went wrong on our side. It has been recorded."),
    503: ("temporarily_unavailable", "This site's database does not answer at the moment. Try again in a few seconds."),
}
_NO_STORE = {"Cache-Control": "no-store"}


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 400."""
    return _answer(request, 400)


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 403."""
    return _answer(request, 403)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer 403 where the proof that the form is ours is missing or old."""
    return _answer(request, 403)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 404."""
    return _answer(request, 404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500, or 503 where it is only that the database is away or takes no writes. F07, F09."""
    if isinstance(sys.exception(), NOT_WRITABLE):
        answer = _answer(request, 503)
        answer.headers["Retry-After"] = str(DATABASE_RETRY_SECONDS)
        return answer
    return _answer(request, 500)


def _answer(request: HttpRequest, status: int) -> HttpResponse:
    code, message = _MESSAGES[status]
    if request.path.startswith(("/api/", "/graphql")):
        body = {
            "error": code,
            "message": message,
            "retryable": status >= 500,
            "requires_reauthorization": False,
            "correlation_id": correlation_id(),
        }
        return JsonResponse(body, status=status, headers=_NO_STORE)
    context = {"status": status, "message": message, "correlation_id": correlation_id()}
    return HttpResponse(render_to_string("error_page.html", context), status=status, headers=_NO_STORE)
