"""Builds the ASGI application out of its parts."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core.asgi import get_asgi_application
from servestatic import ServeStaticASGI
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from oauthflow.streams.application import EventStreams
from oauthflow.token_release.application import TokenRelease

from .answer_headers import answer_headers
from .body_limit import limit_bodies
from .lifespan import Application, Part, Receive, Send, with_lifespan
from .observability.metrics import count_endpoint, count_gateway, count_release

_CONNECTIONS: Final = "/api/v1/connections/"
# A name with a content hash, as the manifest storage makes them: it never changes.
_HASHED_NAME: Final = re.compile(r".*\.[0-9a-f]{12}\.[a-z0-9.]+")
_OF_HTTP: Final = {"ws": "http", "wss": "https"}


def build_application() -> Application:
    """Return the root: proxy headers from trusted proxies only, then a choice by path prefix."""
    django = streams = EventStreams(otherwise=get_asgi_application())
    release = TokenRelease(
        otherwise=django, headers_of=partial(answer_headers, path=_CONNECTIONS), answered=count_release
    )
    handlers: dict[str, Application] = {str(settings.STATIC_URL): _static_files(), _CONNECTIONS: release}
    parts: list[Part] = [streams, release]
    if apps.is_installed("authserver"):
        from authserver.endpoints.application import TokenEndpoints
        from authserver.endpoints.paths import ENDPOINTS, TOKEN

        tokens = TokenEndpoints(
            otherwise=django, headers_of=partial(answer_headers, path=TOKEN), answered=count_endpoint
        )
        handlers |= dict.fromkeys(ENDPOINTS, tokens)
        parts.append(tokens)
    site = limit_bodies(_by_prefix(handlers, otherwise=django))
    if apps.is_installed("gateway"):
        return _with_gateway(site, parts=parts, streams=streams)
    return _behind_proxies(with_lifespan(site, parts=parts, at_termination=[streams.end_streams]))


def build_gateway() -> Application:
    """Return the root of a process that serves the gateway and nothing else."""
    return _with_gateway(_nothing_else, parts=[], streams=None)


def _with_gateway(otherwise: Application, *, parts: list[Part], streams: EventStreams | None) -> Application:
    """The gateway comes first: it bounds bodies itself, and nothing stands between it and its clients."""
    from gateway.application import Gateway
    from gateway.endpoint.paths import METADATA_PREFIX, PREFIX

    gateway = Gateway(headers_of=partial(answer_headers, path=PREFIX), answered=count_gateway)
    root = _by_prefix(dict.fromkeys((PREFIX, METADATA_PREFIX), gateway), otherwise=otherwise)
    endings = [gateway.end_streams, *([streams.end_streams] if streams else [])]
    return _behind_proxies(with_lifespan(root, parts=[*parts, gateway], at_termination=endings))


def _behind_proxies(root: Application) -> Application:
    if settings.TRUSTED_PROXIES:
        return ProxyHeadersMiddleware(_with_scheme_of_http(root), trusted_hosts=list(settings.TRUSTED_PROXIES))
    return root


def _with_scheme_of_http(root: Application) -> Application:
    """A proxy may say `ws` or `wss` of a plain request; handlers know the two of HTTP only."""

    async def plain(scope: Any, receive: Receive, send: Send) -> None:
        if (scheme := scope.get("scheme")) in _OF_HTTP:
            scope["scheme"] = _OF_HTTP[scheme]
        await root(scope, receive, send)

    return plain


def _by_prefix(handlers: dict[str, Application], *, otherwise: Application) -> Application:
    def chosen(scope: Mapping[str, Any], receive: Receive, send: Send) -> Awaitable[None]:
        path = scope["path"]
        for prefix, handler in handlers.items():
            if path.startswith(prefix):
                return handler(scope, receive, send)
        return otherwise(scope, receive, send)

    return chosen


async def _nothing_else(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    is_alive = scope["path"] == "/healthz"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200 if is_alive else 404, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok" if is_alive else b"This process serves /mcp/ only."})


def _static_files() -> Application:
    served: Any = ServeStaticASGI(
        None,
        autorefresh=settings.DEBUG,
        allow_all_origins=False,
        immutable_file_test=lambda path, url: bool(_HASHED_NAME.fullmatch(url)),
        add_headers_function=_add_headers,
    )
    served.add_files(str(settings.STATIC_ROOT), prefix=settings.STATIC_URL)
    application: Application = served
    return application


def _add_headers(headers: Any, path: str, url: str) -> None:
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
