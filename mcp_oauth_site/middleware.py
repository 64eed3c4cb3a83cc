"""Middleware of our own; all of it works under ASGI without a thread hop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.decorators import sync_and_async_middleware

from audit.correlation import begin_correlation

from . import pages
from .observability.metrics import count_request
from .observability.spans import RequestSpan, begin_request_span, end_request_span

GetResponse = Callable[[HttpRequest], Any]
_PUBLIC: Final = frozenset(
    {
        "/oauth/client-metadata.json", "/oauth/client-jwks.json", "/oauth/jwks", "/oauth/register", "/oauth/token",
        "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration",
    }
)  # fmt: skip
_PUBLIC_PREFIXES: Final = ("/oauth/register/",)
_API_PREFIXES: Final = ("/api/v1/", "/graphql")
# The browser's own way through the flow; no script of another site has business there.
_NEVER: Final = frozenset({"/api/v1/oauth/callback"})
_log = structlog.get_logger("mcp_oauth_site.requests")


@sync_and_async_middleware
def request_log(get_response: GetResponse) -> GetResponse:
    """Give each request an id, tell it in `X-Request-ID`, and write one line that names the route but no address."""

    def begin(request: HttpRequest) -> tuple[str, float, RequestSpan | None]:
        request_id = begin_correlation(request.headers.get("X-Request-ID", ""))
        return request_id, time.monotonic(), begin_request_span(request)

    def finish(
        request: HttpRequest, response: HttpResponseBase, begun: tuple[str, float, RequestSpan | None]
    ) -> HttpResponseBase:
        request_id, started, span = begun
        response.headers["X-Request-ID"] = request_id
        match = request.resolver_match
        seconds = time.monotonic() - started
        route = match.route if match else ""
        method, status = request.method or "", response.status_code
        count_request(method=method, route=route, status=status, seconds=seconds)
        end_request_span(span, method=method, route=route, status=status, request_id=request_id)
        user = getattr(request, "_cached_user", None) or getattr(request, "_acached_user", None)
        _log.info(
            "request",
            method=method,
            route=route,
            status=status,
            duration_ms=round(seconds * 1000),
            user=str(getattr(user, "pk", None) or ""),
        )
        return response

    return _around(get_response, before=begin, after=finish)


@sync_and_async_middleware
def cross_origin(get_response: GetResponse) -> GetResponse:
    """Let listed origins use the API, and all what any program needs to sign in; never with a person's cookies.

    Spec: security notes Z09.
    """

    def begin(request: HttpRequest) -> str:
        return _allowed_origin(request)

    def finish(request: HttpRequest, response: HttpResponseBase, origin: str) -> HttpResponseBase:
        if request.path.startswith(_API_PREFIXES):
            patch_vary_headers(response, ["Origin"])
        if origin:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "X-Request-ID, WWW-Authenticate, Retry-After"
        return response

    return _around(get_response, before=begin, after=finish, instead=_preflight)


@sync_and_async_middleware
def text_only(get_response: GetResponse) -> GetResponse:
    """Refuse a NUL in a query: it stands in no text of ours, and PostgreSQL fails when it is asked to look for one."""

    def refuse(request: HttpRequest) -> HttpResponse | None:
        # The callback judges its own parameters, and says which sign-in they belong to.
        if "%00" not in request.META.get("QUERY_STRING", "") or request.path in _NEVER:
            return None
        return pages.bad_request(request)

    return _around(
        get_response, before=lambda request: None, after=lambda request, response, _: response, instead=refuse
    )


def _around(
    get_response: GetResponse,
    *,
    before: Callable[[HttpRequest], Any],
    after: Callable[[HttpRequest, HttpResponseBase, Any], HttpResponseBase],
    instead: Callable[[HttpRequest], HttpResponseBase | None] = lambda request: None,
) -> GetResponse:
    """Build the synchronous or the asynchronous form of one middleware."""
    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> HttpResponseBase:
            begun = before(request)
            response = instead(request) or await get_response(request)
            return after(request, response, begun)

        return asynchronous

    def synchronous(request: HttpRequest) -> HttpResponseBase:
        begun = before(request)
        return after(request, instead(request) or get_response(request), begun)

    return synchronous


def _allowed_origin(request: HttpRequest) -> str:
    origin = request.headers.get("Origin", "")
    if not origin or request.path in _NEVER:
        return ""
    if request.path in _PUBLIC or request.path.startswith(_PUBLIC_PREFIXES):
        return "*"
    listed = request.path.startswith(_API_PREFIXES) and origin in settings.CORS_ALLOWED_ORIGINS
    return origin if listed else ""


def _preflight(request: HttpRequest) -> HttpResponse | None:
    """Answer what a browser asks before a request from an allowed origin; never with credentials."""
    if (
        request.method != "OPTIONS"
        or "Access-Control-Request-Method" not in request.headers
        or not _allowed_origin(request)
    ):
        return None
    headers = {
        "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
        "Access-Control-Allow-Headers": "Authorization, Content-Type, MCP-Protocol-Version, X-Request-ID",
        "Access-Control-Max-Age": "600",
    }
    return HttpResponse(status=204, headers=headers)
