"""Server-Sent Events, as bytes. Spec: WHATWG HTML §9.2; graphql-sse protocol, distinct connections mode."""

from __future__ import annotations

import json
from typing import Any, Final

from oauthflow.event_body import event_body
from oauthflow.models import Event

CONTENT_TYPE: Final = "text/event-stream; charset=utf-8"
RETRY: Final = b"retry: 3000\n\n"
"""How many milliseconds a browser waits before it connects again."""
HEARTBEAT: Final = b": \n\n"
"""A comment; keeps proxies from closing what is merely quiet."""
COMPLETE: Final = b"event: complete\ndata:\n\n"
"""A GraphQL subscription is over and shall not be asked for again."""


def event_frame(event: Event) -> bytes:
    """Return one event."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.cursor, event.event_type.encode(), _json(event_body(event)))


def cursor_frame(cursor: int) -> bytes:
    """Return an id without an event: whoever connects again goes on after it, though nothing came."""
    return b"id: %d\n\n" % cursor


def next_frame(result: dict[str, Any]) -> bytes:
    """Return one result of a GraphQL subscription."""
    return b"event: next\ndata: %s\n\n" % _json(result)


def _json(value: object) -> bytes:
    """JSON in one line: a line break would end the field."""
    return json.dumps(value, separators=(",", ":")).encode()
