"""What of a server's answer the client gets: kinds of body and headers that may pass, all others may not.

Spec: G-05, G-09, G-11; security notes G05, G08, G16.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

from oauthflow.egress.relay_client import RawHeader, ServerAnswer

from ..endpoint.answers import JSON, NO_STORE, SERVER_ERROR, FailedError
from ..messages import error_body

_PASSED: Final = (
    (b"mcp-protocol-version", re.compile(rb"[0-9A-Za-z.-]{1,40}")),
    (b"retry-after", re.compile(rb"[0-9]{1,6}")),
)


class Kind(Enum):
    """What follows the head of an answer."""

    DOCUMENT = auto()
    EVENTS = auto()
    NOTHING = auto()
    UNEXPLAINED = auto()
    """A client error with a body that is not for programs: the status says what a client has to know."""


def kind_of(answer: ServerAnswer) -> Kind:
    """Say what kind of answer this is.

    Raises:
        FailedError: 502, one that never passes: a redirect, a page, something packed, a failure without JSON.
    """
    status = answer.status
    if not (200 <= status < 300 or 400 <= status < 600):
        raise FailedError(502, "The server answered with a redirect or a change of protocol, which is not followed.")
    if answer.header(b"content-encoding").lower() not in (b"", b"identity"):
        raise FailedError(502, "The server's answer is compressed, although nobody asked for that.")
    media_type = answer.header(b"content-type").partition(b";")[0].strip().lower()
    if status in (202, 204) or answer.is_complete():
        return Kind.NOTHING
    if media_type == b"application/json":
        return Kind.DOCUMENT
    if media_type == b"text/event-stream" and status == 200:
        return Kind.EVENTS
    if 400 <= status < 500:
        return Kind.UNEXPLAINED
    raise FailedError(502, "The server's answer is neither JSON nor a stream of events.")


def returned_headers(answer: ServerAnswer, *, kind: Kind) -> list[RawHeader]:
    """Return the headers that the client gets of any answer of this kind."""
    headers = [NO_STORE] if kind in (Kind.EVENTS, Kind.NOTHING) else [JSON, NO_STORE]
    for name, pattern in _PASSED:
        value = answer.header(name)
        if value and pattern.fullmatch(value):
            headers.append((name, value))
    return headers


def unexplained(status: int, *, id: str | int | None) -> bytes:
    """Return the body of a refusal in place of the server's own, which may be a page for people."""
    return error_body(SERVER_ERROR, f"The server refused the request with status {status}.", id=id)
