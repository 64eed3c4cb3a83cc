"""Messages of the broker that nobody can read or do: logged each time, recorded once an hour of each kind.

Whoever can write to the broker could send millions of them, so a process records one of a kind and counts the rest.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Final

import structlog
from celery import signals
from celery.worker import consumer
from django.db import DatabaseError, InterfaceError, connection
from kombu.exceptions import ContentDisallowed

from audit.events import AuditEvent
from audit.record import record

MESSAGE_SKIPPED: Final = "message_skipped"
UNREADABLE, NO_TASK, UNKNOWN_TASK = "unreadable", "no task", "unknown task"
_AGAIN_SECONDS: Final = 3600.0
_log: Final = structlog.get_logger(__name__)
_recorded_at: Final[dict[str, float]] = {}
_since: Final[Counter[str]] = Counter()


def note_skipped(kind: str, *, error: BaseException | None = None) -> None:
    """Tell of one message. An error's text may hold parts of it; its type is told."""
    _log.warning("a message is skipped", outcome=kind, name=type(error).__name__)
    _since[kind] += 1
    now = time.monotonic()
    if now - _recorded_at.get(kind, float("-inf")) < _AGAIN_SECONDS:
        return
    try:
        # Its event is that of a spool file that does not open: the contract has none for messages, which only wake.
        record(AuditEvent.TOKEN_REFRESH_FAILED, reason=MESSAGE_SKIPPED, details={"kind": kind, "count": _since[kind]})
    except (DatabaseError, InterfaceError) as failed:  # the next one is recorded, with how many there were
        _log.warning("a skipped message is not recorded", name=type(failed).__name__)
    else:
        _recorded_at[kind] = now
        del _since[kind]
    finally:
        if not connection.in_atomic_block:
            connection.close()


class Consumer(consumer.Consumer):
    """Celery's own, which has no signal for this."""

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        super().on_decode_error(message, exc)
        note_skipped(UNREADABLE, error=exc)


@signals.task_unknown.connect(dispatch_uid="mcp_oauth_site.note_unknown_task")
def note_unknown_task(exc: Exception | None = None, **kwargs: Any) -> None:
    """A task that no app here has."""
    note_skipped(UNKNOWN_TASK, error=exc)


@signals.task_rejected.connect(dispatch_uid="mcp_oauth_site.note_rejected")
def note_rejected(exc: Exception | None = None, **kwargs: Any) -> None:
    """A message in a form that we do not accept, a pickle for example, or one that names no task."""
    note_skipped(UNREADABLE if isinstance(exc, ContentDisallowed) else NO_TASK, error=exc)
