"""Background work: each task calls one flow. The rows are the queue, a message only wakes."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from .flows.purge import purge_finished
from .flows.purge_events import purge_events
from .flows.refresh_due import refresh_due


@shared_task
def purge_finished_requests() -> int:
    """Delete authorization requests and events that are over."""
    now = timezone.now()
    return purge_finished(now=now) + purge_events(now=now)


@shared_task
def refresh_due_tokens() -> dict[str, int]:
    """Renew what ends soon."""
    return refresh_due(now=timezone.now())
