"""The Celery application. `celery -A mcp_oauth_site.celery worker`, or simply `manage.py up`."""

from __future__ import annotations

import os
import threading
from typing import Any, Final

from celery import Celery, Task, bootsteps, signals
from django.conf import settings
from kombu import Connection
from kombu.transport import TRANSPORT_ALIASES

from audit.correlation import begin_correlation, begun_correlation

from .broker import CORRELATION_HEADER, HEARTBEAT_TASK

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mcp_oauth_site.settings")

# By name, for the addresses that `broker_settings` makes: SQLAlchemy takes long to load, and commands need no broker.
TRANSPORT_ALIASES.update(
    {
        "redis": "mcp_oauth_site.message_transports:RedisTransport",
        "rediss": "mcp_oauth_site.message_transports:RedisTransport",
        "sqla": "mcp_oauth_site.message_transports:SqlTransport",
    }
)
app = Celery("mcp_oauth_site")
app.conf.update(settings.CELERY)
app.conf.worker_consumer = "mcp_oauth_site.skipped_messages:Consumer"
# An app that is off has no tasks.
app.conf.beat_schedule = {
    name: entry
    for name, entry in app.conf.beat_schedule.items()
    if entry["task"].partition(".")[0] in settings.INSTALLED_APPS
}
app.autodiscover_tasks()


def connection_within(seconds: int) -> Connection:
    """Return a connection to the broker that waits no longer for an answer.

    A Redis that is paused accepts connections and says nothing; the broker of files knows no such options.
    """
    options = dict(app.conf.broker_transport_options)
    if str(app.conf.broker_url).startswith("redis"):
        options |= {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    connection: Connection = app.connection_for_write(connect_timeout=seconds, transport_options=options)
    return connection


@signals.setup_logging.connect
def keep_site_logging(**kwargs: Any) -> None:
    """Having a receiver stops Celery from replacing the log handlers of settings."""


@app.task(name=HEARTBEAT_TASK)
def note_heartbeat() -> None:
    """Keep that beat, broker and worker work together."""
    from .observability.heartbeat import note_beat

    note_beat()


@signals.before_task_publish.connect
def send_correlation(headers: dict[str, Any] | None = None, **kwargs: Any) -> None:
    """Let a task know the id of the request, task or command that asked for it."""
    if headers is not None and (begun := begun_correlation()):
        headers.setdefault(CORRELATION_HEADER, begun)


@signals.beat_init.connect
def send_no_correlation(**kwargs: Any) -> None:
    """Let each task that beat wakes have an id of its own: beat's is that of its start, for as long as it runs."""
    signals.before_task_publish.disconnect(send_correlation)


@signals.task_prerun.connect
def begin_task_correlation(task_id: str = "", task: Task[Any, Any] | None = None, **kwargs: Any) -> None:
    """Let the log lines and audit records of one task share the id of who asked for it, or its own."""
    given = task.request.get(CORRELATION_HEADER) if task is not None else None
    begin_correlation(str(given or task_id))


@signals.worker_init.connect
def tell_spans(**kwargs: Any) -> None:
    """Send spans where the environment says so."""
    from .observability.spans import send_spans

    send_spans()


@signals.worker_process_init.connect
def end_with_the_worker(**kwargs: Any) -> None:
    """Leave no process of the pool behind, with its database connections, where the worker itself was killed."""
    from .supervise import die_with_parent

    die_with_parent()


class Watches(bootsteps.StartStopStep):
    """What a worker does unasked begins before it has reached the broker, which may be away for long. F05.

    Not before the pool, whose processes are forked from this one.
    """

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        """Begin; Celery calls it once."""
        from oauthflow.tasks import start_watches

        start_watches()
        start_stand_in()


app.steps["worker"].add(Watches)


def start_stand_in() -> None:
    """Look after beat as long as the worker runs."""
    from oauthflow.flows.watching import begin

    from .stand_in import stand_in_for_beat

    begin(stand_in_for_beat, name="beat-stand-in", stop=_stopping)


@signals.worker_shutting_down.connect(dispatch_uid="mcp_oauth_site.stop_stand_in")
def stop_stand_in(**kwargs: Any) -> None:
    """Begin nothing new."""
    _stopping.set()


_stopping: Final = threading.Event()
