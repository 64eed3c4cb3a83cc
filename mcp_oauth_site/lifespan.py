"""The beginning and end of a process that serves: its parts are opened before the first request and closed after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, close_old_connections

from oauthflow.hot_path.collector import collect_rarely
from oauthflow.streams.termination import on_termination

from .canary import require_key_canary

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]


class Part(Protocol):
    """A handler beside Django that has threads or connections of its own."""

    async def open(self) -> None:
        """Begin, before the first request."""

    async def close(self) -> None:
        """Finish what waits, and end."""


def with_lifespan(
    application: Application, *, parts: Sequence[Part], at_termination: Sequence[Callable[[], None]]
) -> Application:
    """Return the application with what ASGI servers tell of their beginning and end.

    Args:
        application: Serves HTTP.
        parts: Closed in this order.
        at_termination: Called as soon as the process is told to stop, while requests are still under way.
    """

    async def root(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send, parts=parts, at_termination=at_termination)
        elif scope["type"] == "http":
            await application(scope, receive, send)

    return root


async def _lifespan(
    receive: Receive, send: Send, *, parts: Sequence[Part], at_termination: Sequence[Callable[[], None]]
) -> None:
    """Refuse to start with keys that do not fit the database; Django itself does not know this protocol."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            refusal = await sync_to_async(_refusal, thread_sensitive=False)()
            outcome = "failed" if refusal else "complete"
            if not refusal:
                for part in parts:
                    await part.open()
                for end in at_termination:
                    on_termination(end)
                collect_rarely()
            await send({"type": f"lifespan.startup.{outcome}", "message": refusal})
        else:
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
