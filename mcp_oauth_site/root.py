"""Builds the ASGI application out of its parts."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, close_old_connections
from servestatic import ServeStaticASGI
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from oauthflow.streams.application import EventStreams
from oauthflow.streams.termination import on_termination
from oauthflow.token_release.application import TokenRelease

from .answer_headers import answer_headers
from .canary import require_key_canary
from .observability.metrics import count_endpoint, count_release

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

_CONNECTIONS: Final = "/api/v1/connections/"
# A name with a content hash, as the manifest storage makes them: it never changes.
_HASHED_NAME: Final = re.compile(r".*\.[0-9a-f]{12}\.[a-z0-9.]+")


class Part(Protocol):
    """A handler beside Django that has threads or connections of its own."""

    async def open(self) -> None:
        """Begin, before the first request."""

    async def close(self) -> None:
        """Finish what waits, and end."""


def build_application() -> Application:
    """Return the root: proxy headers from trusted proxies only, then a choice by path prefix."""
    django = streams = EventStreams(otherwise=get_asgi_application())
    release = TokenRelease(
        otherwise=django, headers_of=partial(answer_headers, path=_CONNECTIONS), answered=count_release
    )
    handlers: dict[str, Application] = {str(settings.STATIC_URL): _static_files(), _CONNECTIONS: release}
    parts: list[Part] = [release]
    if apps.is_installed("authserver"):
        from authserver.endpoints.application import TokenEndpoints
        from authserver.endpoints.paths import ENDPOINTS, TOKEN

        tokens = TokenEndpoints(
            otherwise=django, headers_of=partial(answer_headers, path=TOKEN), answered=count_endpoint
        )
        handlers |= dict.fromkeys(ENDPOINTS, tokens)
        parts.append(tokens)
    root = _by_prefix(handlers, otherwise=django, parts=parts, streams=streams)
    if settings.TRUSTED_PROXIES:
        return ProxyHeadersMiddleware(root, trusted_hosts=list(settings.TRUSTED_PROXIES))
    return root


def _by_prefix(
    handlers: dict[str, Application], *, otherwise: Application, parts: Sequence[Part], streams: EventStreams
) -> Application:
    async def root(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send, parts=parts, streams=streams)
            return
        if scope["type"] != "http":
            return
        path = scope["path"]
        handler = next((found for prefix, found in handlers.items() if path.startswith(prefix)), otherwise)
        await handler(scope, receive, send)

    return root


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


async def _lifespan(receive: Receive, send: Send, *, parts: Sequence[Part], streams: EventStreams) -> None:
    """Refuse to start with keys that do not fit the database; Django itself does not know this protocol."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            refusal = await sync_to_async(_refusal, thread_sensitive=False)()
            outcome = "failed" if refusal else "complete"
            if not refusal:
                for part in parts:
                    await part.open()
                on_termination(streams.end_streams)
            await send({"type": f"lifespan.startup.{outcome}", "message": refusal})
        else:
            await streams.close()
            for part in parts:
                await part.close()
            await send({"type": "lifespan.shutdown.complete"})
            return


def _refusal() -> str:
    close_old_connections()
    try:
        require_key_canary()
    except ImproperlyConfigured as error:
        return str(error)
    except DatabaseError:
        return "The database is not ready; run `manage.py migrate`."
    finally:
        close_old_connections()
    return ""
