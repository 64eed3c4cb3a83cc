"""Background work: each task calls one flow. The rows are the queue, a message only wakes."""

from __future__ import annotations

import mmap
import threading
import time
from typing import Any, Final

import structlog
from celery import shared_task, signals
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError

from connections.database_time import by_database

from .flows.deactivate import end_deactivated
from .flows.forget_registrations import forget_registrations
from .flows.mail.digest import send_digests
from .flows.mail.queue_notices import queue_notices
from .flows.mail.send_notices import send_notices
from .flows.purge import purge_finished, purge_revocations
from .flows.purge_events import purge_events
from .flows.refresh.succession import succession
from .flows.refresh.watch import watch_for_the_dead
from .flows.refresh_due import refresh_due
from .flows.revocation_outbox.watch import watch_revocations
from .flows.warn_ahead import warn_ahead
from .flows.watching import await_ends, begin
from .flows.webhooks.watch import watch_webhooks
from .hot_path.collector import collect_rarely

RUN_SECONDS: Final = 150.0
"""How long a run begins new refreshes."""
LONG_RUN_SECONDS: Final = 5.0
"""While a run lasts so long, more becomes due that it has not read, and that should not wait for beat."""
LAST_ANSWER_SECONDS: Final = 60.0
"""After which nothing is under way any more that was begun before: what a lease lasts."""
_log: Final = structlog.get_logger(__name__)


@shared_task
def purge_finished_requests() -> int:
    """Delete authorization requests, events, registrations and entries of the outbox that are over."""
    now = timezone.now()
    purged = purge_finished(now=now) + purge_events(now=now) + purge_revocations(now=now)
    return purged + forget_registrations(now=now)


# The last answer is awaited for a minute, and written for two where the database is away.
@shared_task(soft_time_limit=360, time_limit=420)
def refresh_due_tokens() -> dict[str, int]:
    """Renew what ends soon. A run that is told to stop, or takes long, ends in order; another one takes the rest."""
    began = time.monotonic()

    def go_on() -> bool:
        return not is_stopping() and time.monotonic() < began + RUN_SECONDS

    with succession() as wakes_the_next:
        done = refresh_due(now=by_database(timezone.now()), go_on=go_on)
    if wakes_the_next and not is_stopping() and time.monotonic() >= began + LONG_RUN_SECONDS:
        _wake_the_next()
    return done


def _wake_the_next() -> None:
    """At once, and not only with beat's next message."""
    try:
        refresh_due_tokens.apply_async(expires=60, retry=False)
    except BrokerError as error:  # beat sends one every minute, and workers look by themselves where it does not
        _log.warning("refresh.next_run_not_woken", exception=type(error).__name__)


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
    begin(watch_for_the_dead, name="refresh-watch", stop=_stopping)
    begin(watch_webhooks, name="webhook-watch", stop=_stopping)
    begin(watch_revocations, name="revocation-watch", stop=_stopping)


@signals.worker_shutting_down.connect(dispatch_uid="oauthflow.stop_watches")
def stop_watches(**kwargs: Any) -> None:
    """Begin nothing new. Celery itself waits for the tasks that run."""
    _stopping.set()
    _told[0] = True


@signals.worker_shutdown.connect(dispatch_uid="oauthflow.await_watches")
def await_watches(**kwargs: Any) -> None:
    """Keep the answers that are still under way."""
    await_ends(seconds=LAST_ANSWER_SECONDS)


def is_stopping() -> bool:
    """Whether this worker was told to stop; the processes of its pool see it too."""
    return bool(_told[0])


_stopping: Final = threading.Event()
_watching: Final = threading.Event()
_told: Final = mmap.mmap(-1, 1)  # processes that are forked from this one share it
