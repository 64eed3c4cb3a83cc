"""How an `OAuthError` looks where the answer is JSON, and where it is a page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from audit.correlation import correlation_id

from ..conf import issuer
from ..protocol.authorization_request import Answerable
from ..protocol.authorization_response import error_response
from ..protocol.errors import InteractionRequiredError, OAuthError
from ..protocol.redirect_uri import shown_host
from . import plain_answers


def error_answer(error: OAuthError) -> HttpResponse:
    """Answer a program."""
    answer = plain_answers.error_answer(error)
    return HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))


def error_page(request: HttpRequest, error: OAuthError, *, answerable: Answerable | None = None) -> HttpResponse:
    """Tell a person; a link, and nothing else, leads back to the client where its address is known to be its own.

    Spec: RFC 6749 §4.1.2.1; RFC 9700 §4.11.2. A-20, AS15.
    """
    context = {
        "code": error.error,
        "sentence": error.description,
        "correlation_id": correlation_id(),
        "host": shown_host(answerable.redirect_uri) if answerable else "",
        "way_back": error_response(answerable, issuer=issuer(), error=error)
        if answerable and error.redirectable
        else "",
        "asks_for_no_page": isinstance(error, InteractionRequiredError),
        "bare": True,
    }
    response = render(request, "authserver/problem.html", context, status=error.status)
    response.headers["Cache-Control"], response.headers["Referrer-Policy"] = "no-store", "no-referrer"
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


def to_client(address: str) -> HttpResponse:
    """Send the browser to a client; always by GET, and telling nobody where it came from.

    Django's own redirects know no address of a program's own scheme, and would rewrite others.
    Spec: RFC 9110 §15.4.4; RFC 9700 §4.12. AS15.
    """
    headers = {"Location": address, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return HttpResponse(status=303, headers=headers)
