"""Background work: each task calls one flow. The rows are the queue, a message only wakes."""

from __future__ import annotations

import threading
from typing import Any, Final

from celery import shared_task, signals
from django.utils import timezone

from .flows.forget_registrations import forget_registrations
from .flows.purge import purge_finished, purge_revocations
from .flows.purge_events import purge_events
from .flows.refresh.watch import watch_for_the_dead
from .flows.refresh_due import refresh_due
from .flows.revocation_outbox.watch import watch_revocations
from .flows.webhooks.watch import watch_webhooks


@shared_task
def purge_finished_requests() -> int:
    """Delete authorization requests, events, registrations and entries of the outbox that are over."""
    now = timezone.now()
    purged = purge_finished(now=now) + purge_events(now=now) + purge_revocations(now=now)
    return purged + forget_registrations(now=now)


@shared_task
def refresh_due_tokens() -> dict[str, int]:
    """Renew what ends soon."""
    return refresh_due(now=timezone.now())


@signals.worker_ready.connect(dispatch_uid="oauthflow.start_watches")
def start_watches(**kwargs: Any) -> None:
    """Look after refreshes that died with their process, after webhooks and revocations, as long as the worker runs."""
    threading.Thread(target=watch_for_the_dead, args=(_stopping,), name="refresh-watch", daemon=True).start()
    threading.Thread(target=watch_webhooks, args=(_stopping,), name="webhook-watch", daemon=True).start()
    threading.Thread(target=watch_revocations, args=(_stopping,), name="revocation-watch", daemon=True).start()


@signals.worker_shutting_down.connect(dispatch_uid="oauthflow.stop_watches")
def stop_watches(**kwargs: Any) -> None:
    """Begin nothing new."""
    _stopping.set()


_stopping: Final = threading.Event()
