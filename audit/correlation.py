"""One id that ties together the log lines and audit records of one request, task or command."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

_current: ContextVar[str] = ContextVar("correlation_id", default="")
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
    chosen = given if _ACCEPTED.fullmatch(given) else uuid.uuid4().hex
    _current.set(chosen)
    return chosen
