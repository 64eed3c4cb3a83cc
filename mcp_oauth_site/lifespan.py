"""The beginning and end of a process that serves: its parts are opened before the first request and closed after."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, close_old_connections

from oauthflow.streams.termination import on_termination

from .canary import require_key_canary

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

_YOUNG: Final = 10_000
"""How many objects are made before the youngest are looked through; a call makes some hundred that are soon gone."""


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
                _spare_garbage_collection()
            await send({"type": f"lifespan.startup.{outcome}", "message": refusal})
        else:
            for part in parts:
                await part.close()
            await send({"type": "lifespan.shutdown.complete"})
            return


def _spare_garbage_collection() -> None:
    """Let the collector pass over all that a process has once it is ready, which stays as long as the process does.

    Without this it goes through some hundred thousand objects again and again, for a tenth of what a call costs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])


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
