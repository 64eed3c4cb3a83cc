"""Refuse bodies that are larger than anything this site takes, before Django copies them into a file."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from audit.correlation import begin_correlation

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

MOST_BYTES: Final = 4 * 1024 * 1024
"""A file of servers may have 1 MiB and comes in a form; JSON bodies have limits of their own below that."""

_HEADERS: Final = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; object-src 'none'; base-uri 'none'"),
    (b"connection", b"close"),
)


def limit_bodies(application: Application, *, most_bytes: int = MOST_BYTES) -> Application:
    """Answer 413 where a request announces or sends more; nothing behind this sees the rest of it.

    Spec: RFC 9110 §15.5.14; security notes L02, Z08.
    """

    async def limited(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
        elif _announced(scope) > most_bytes:
            await _refuse(send)
        else:
            await _metered(application, scope, receive, send, most_bytes=most_bytes)

    return limited


async def _metered(
    application: Application, scope: Mapping[str, Any], receive: Receive, send: Send, *, most_bytes: int
) -> None:
    received, is_too_large, has_begun = 0, False, False

    async def counted() -> Any:
        nonlocal received, is_too_large
        message = await receive()
        received += len(message.get("body", b""))
        if received > most_bytes:
            is_too_large = True
            return {"type": "http.disconnect"}
        return message

    async def noticed(message: Any) -> None:
        nonlocal has_begun
        has_begun = True
        await send(message)

    await application(scope, counted, noticed)
    if is_too_large and not has_begun:
        await _refuse(send)


def _announced(scope: Mapping[str, Any]) -> int:
    length = next((value for name, value in scope["headers"] if name.lower() == b"content-length"), b"0")
    return int(length) if length.isdigit() else 0


async def _refuse(send: Send) -> None:
    said = {
        "error": "request_too_large",
        "message": "The request is larger than anything this address takes.",
        "retryable": False,
        "requires_reauthorization": False,
        "correlation_id": begin_correlation(),
    }
    body = json.dumps(said).encode()
    headers = [*_HEADERS, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
