"""What the middleware puts on every answer, for handlers that answer beside Django."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

# The id differs from answer to answer and the length from body to body: the handler says both.
_OWN_ID: Final = "mcp_oauth_site.middleware.request_log"
_LENGTH: Final = "content-length"


def answer_headers(scheme: str, *, path: str, own: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return the headers that an answer has after its way through `settings.MIDDLEWARE`, without length and id.

    Args:
        scheme: `http` or `https`, as the request came.
        path: An address of the handler; some headers differ by prefix.
        own: Headers that the answer has before.
    """
    answer: Any = partial(_empty, own)
    for name in reversed(settings.MIDDLEWARE):
        if name != _OWN_ID:
            answer = import_string(name)(answer)
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": path, "wsgi.url_scheme": scheme, "wsgi.input": io.BytesIO()}
    request = WSGIRequest({**environ, "SERVER_NAME": _a_host(), "SERVER_PORT": "443" if scheme == "https" else "80"})
    response: HttpResponseBase = answer(request)
    made = response.headers.items()
    return [(name.lower().encode(), value.encode()) for name, value in made if name.lower() != _LENGTH]


def _empty(headers: Mapping[str, str], request: HttpRequest) -> HttpResponse:
    return HttpResponse(headers=headers)


def _a_host() -> str:
    """A name that we answer to; `.example.com` stands for `example.com` too, and `*` for every name."""
    return (settings.ALLOWED_HOSTS or ["localhost"])[0].strip("*.") or "localhost"
