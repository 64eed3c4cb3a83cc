"""How Celery is set up: with Redis, or with a SQLite file. A message is only a wake-up; the row is the queue."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from ssl import CERT_REQUIRED
from typing import Any, Final

_EMBEDDED_PREFIX: Final = "sqla+sqlite:///"

HEARTBEAT_TASK: Final = "mcp_oauth_site.celery.note_heartbeat"
CORRELATION_HEADER: Final = "site_correlation_id"

# Names of tasks and how often they run, in seconds.
BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "purge finished authorization requests": {"task": "oauthflow.tasks.purge_finished_requests", "schedule": 600.0},
    "forget clients that nobody uses": {"task": "authserver.tasks.forget_unused_clients", "schedule": 3600.0},
    "delete codes and tokens that are over": {"task": "authserver.tasks.purge_old_tokens", "schedule": 600.0},
    "stop webhooks that programs left": {"task": "authserver.tasks.stop_left_webhooks", "schedule": 600.0},
    "forget sessions that nobody uses": {"task": "gateway.tasks.forget_idle_sessions", "schedule": 3600.0},
    "delete old counts and arguments of calls": {"task": "gateway.tasks.forget_old_calls", "schedule": 3600.0},
    "note the end of the audit record": {"task": "audit.tasks.note_audit_head", "schedule": 60.0},
    "remove old audit records": {"task": "audit.tasks.remove_old_audit_records", "schedule": 86400.0},
    "refresh tokens that are due": {"task": "oauthflow.tasks.refresh_due_tokens", "schedule": 60.0},
    "send e-mail that waits": {"task": "oauthflow.tasks.send_mail", "schedule": 60.0},
    "warn of what ends soon": {"task": "oauthflow.tasks.warn_of_ends", "schedule": 300.0},
    "end what deactivated people hold": {"task": "oauthflow.tasks.end_what_deactivated_people_hold", "schedule": 60.0},
    "note that beat runs": {"task": HEARTBEAT_TASK, "schedule": 20.0},
}


def broker_settings(redis_url: str, *, sqlite_file: Path) -> dict[str, Any]:
    """Return Celery's settings for Redis, or for the embedded broker where the address is empty."""
    return {
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_soft_time_limit": 240,
        "task_time_limit": 300,
        "worker_hijack_root_logger": False,
        "worker_prefetch_multiplier": 1,
        "broker_connection_retry_on_startup": True,
        # For ever: a worker that gave up would have to be started by hand.
        "broker_connection_max_retries": None,
        "enable_utc": True,
        "timezone": "UTC",
        "beat_schedule": {
            name: {**entry, "options": {"expires": entry["schedule"]}} for name, entry in BEAT_SCHEDULE.items()
        },
        "beat_schedule_filename": str(sqlite_file.parent / "beat-schedule"),
        **(_redis(redis_url) if redis_url else _embedded(sqlite_file)),
    }


def prepare_embedded_broker(settings: dict[str, Any]) -> None:
    """Set the broker file to WAL; its readers and writers would otherwise lock each other out."""
    url = str(settings["broker_url"])
    if url.startswith(_EMBEDDED_PREFIX):
        with closing(sqlite3.connect(url.removeprefix(_EMBEDDED_PREFIX), timeout=20)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")


def _redis(url: str) -> dict[str, Any]:
    if url.startswith("unix://"):  # the cache's client calls the number of the database otherwise
        url = url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)
    return {
        "broker_url": url,
        # Without options in the address the broker's client would take any certificate; those that are there win.
        "broker_use_ssl": url.startswith("rediss://") and {"ssl_cert_reqs": CERT_REQUIRED},
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # With the defaults, the tasks of a killed worker come back after an hour.
        "broker_transport_options": {
            "visibility_timeout": 480, "unacked_restore_interval": 10, "unacked_restore_throttle": 1,
        },
    }  # fmt: skip


def _embedded(sqlite_file: Path) -> dict[str, Any]:
    return {
        "broker_url": f"{_EMBEDDED_PREFIX}{sqlite_file}",
        "broker_transport_options": {"connect_args": {"timeout": 20}},
    }
