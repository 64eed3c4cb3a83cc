"""Background work: each task calls one flow. The rows are the queue, a message only wakes."""

from __future__ import annotations

import threading
from typing import Any, Final

from celery import shared_task, signals
from django.utils import timezone

from connections.database_time import by_database

from .flows.deactivate import end_deactivated
from .flows.forget_registrations import forget_registrations
from .flows.mail.digest import send_digests
from .flows.mail.queue_notices import queue_notices
from .flows.mail.send_notices import send_notices
from .flows.purge import purge_finished, purge_revocations
from .flows.purge_events import purge_events
from .flows.refresh.watch import watch_for_the_dead
from .flows.refresh_due import refresh_due
from .flows.revocation_outbox.watch import watch_revocations
from .flows.warn_ahead import warn_ahead
from .flows.webhooks.watch import watch_webhooks
from .hot_path.collector import collect_rarely


@shared_task
def purge_finished_requests() -> int:
    """Delete authorization requests, events, registrations and entries of the outbox that are over."""
    now = timezone.now()
    purged = purge_finished(now=now) + purge_events(now=now) + purge_revocations(now=now)
    return purged + forget_registrations(now=now)


@shared_task
def refresh_due_tokens() -> dict[str, int]:
    """Renew what ends soon."""
    return refresh_due(now=by_database(timezone.now()))


@shared_task
def send_mail() -> int:
    """Write to people whom something needs."""
    now = timezone.now()
    queue_notices(now=now)
    return send_notices(now=now) + send_digests(now=now)


@shared_task
def warn_of_ends() -> int:
    """Tell ahead what will end."""
    return warn_ahead(now=timezone.now())


@signals.worker_process_init.connect(dispatch_uid="oauthflow.collect_rarely")
@signals.worker_ready.connect(dispatch_uid="oauthflow.collect_rarely")
def tune_collector(**kwargs: Any) -> None:
    """For the batches that this process will refresh."""
    collect_rarely()


@shared_task
def end_what_deactivated_people_hold() -> int:
    """Revoke the grants of people who were deactivated."""
    return end_deactivated(now=timezone.now())


@signals.worker_ready.connect(dispatch_uid="oauthflow.start_watches")
def start_watches(**kwargs: Any) -> None:
    """Look after refreshes that died with their process, after webhooks and revocations, as long as the worker runs.

    Once: a site may call it before Celery says that the worker is ready.
    """
    if _watching.is_set():
        return
    _watching.set()
    threading.Thread(target=watch_for_the_dead, args=(_stopping,), name="refresh-watch", daemon=True).start()
    threading.Thread(target=watch_webhooks, args=(_stopping,), name="webhook-watch", daemon=True).start()
    threading.Thread(target=watch_revocations, args=(_stopping,), name="revocation-watch", daemon=True).start()


@signals.worker_shutting_down.connect(dispatch_uid="oauthflow.stop_watches")
def stop_watches(**kwargs: Any) -> None:
    """Begin nothing new."""
    _stopping.set()


_stopping: Final = threading.Event()
_watching: Final = threading.Event()
