"""What ties together the log lines and audit records of one request, task or command: an id, and who acts."""

from __future__ import annotations

import re
import time
import uuid
from contextvars import ContextVar
from random import getrandbits

_current: ContextVar[str] = ContextVar("correlation_id", default="")
_client: ContextVar[str] = ContextVar("acting_client", default="")
_ACCEPTED = re.compile(r"[A-Za-z0-9._-]{8,64}")


def correlation_id() -> str:
    """Return the current id, making one where none was begun."""
    if not _current.get():
        begin_correlation()
    return _current.get()


def begun_correlation() -> str:
    """Return the current id, or an empty text where none was begun."""
    return _current.get()


def begin_correlation(given: str = "") -> str:
    """Begin a new id, or take over one that a caller sent if it is 8 to 64 plain characters."""
    return _begin(given if _ACCEPTED.fullmatch(given) else uuid.uuid4().hex)


def begin_growing_correlation() -> str:
    """Begin a new id of `growing_id`."""
    return _begin(growing_id())


def _begin(chosen: str) -> str:
    _current.set(chosen)
    if _client.get():
        _client.set("")
    return chosen


def growing_id() -> str:
    """Return a new id. Ids that grow with time: the index of the audit record takes them several times more cheaply."""
    return f"{time.time_ns():016x}{getrandbits(64):016x}"


def act_through(client: str) -> None:
    """Name the program that acts from here on, until the next correlation begins."""
    _client.set(client)


def acting_program() -> str:
    """Return the name of the program that acts, or an empty text where a person or the site itself does."""
    return _client.get()
