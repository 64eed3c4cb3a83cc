"""Liveness and readiness for operators and load balancers. Names of parts and one word for each, never a cause.

A part without which nothing can be done has `failed`, and the answer is 503. Without cache, broker or beat the site is
`degraded`: tokens are still given out and renewed, only later, so that a load balancer should go on sending requests.
So it is with a database that takes no writes: tokens that work are given out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from django.core.cache import cache
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from .caches import cache_is_shared
from .canary import key_canary_opens
from .celery import connection_within
from .observability.heartbeat import beat_is_silent

_log = structlog.get_logger(__name__)
_BROKER_SECONDS: Final = 1


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Say that the process answers; touches nothing else."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Say part by part whether work can be done; 503 where one failed that everything needs."""
    parts = {name: "ok" if _holds(name, check) else "failed" for name, check in _NEEDED.items()}
    parts |= {name: "ok" if _holds(name, check) else "degraded" for name, check in _HELPFUL.items()}
    if parts["database"] == "ok" and not _holds("database", _takes_writes):
        parts["database"] = "degraded"
    states = set(parts.values())
    status = "failed" if "failed" in states else "degraded" if "degraded" in states else "ok"
    return JsonResponse({"status": status, "parts": parts}, status=503 if status == "failed" else 200)


def _holds(name: str, check: Callable[[], bool]) -> bool:
    """A part that raises does not hold, whatever it raised; the log says what."""
    try:
        return check()
    except Exception:
        _log.exception("readiness check failed", name=name)
        return False


def _database() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return bool(cursor.fetchone() == (1,))


def _takes_writes() -> bool:
    """Asked without writing: a standby, a switch to read-only, a file or file system that may not be written. F09."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean")
            return bool(cursor.fetchone() == (False,))
        cursor.execute("PRAGMA query_only")
        is_locked = bool(cursor.fetchone() != (0,))
    file = Path(str(connection.settings_dict["NAME"]))
    return not is_locked and os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)


def _migrations() -> bool:
    """Whether every migration that this version knows was applied; a newer version may have applied more."""
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def _cache() -> bool:
    cache.set("readyz", "1", timeout=10)
    return bool(cache.get("readyz") == "1") and cache_is_shared()


def _broker() -> bool:
    with connection_within(_BROKER_SECONDS) as broker:
        broker.ensure_connection(max_retries=1, timeout=_BROKER_SECONDS)
        return True


def _beat() -> bool:
    return not beat_is_silent()


_NEEDED: Final[dict[str, Callable[[], bool]]] = {
    "database": _database,
    "migrations": _migrations,
    "keys": key_canary_opens,
}
_HELPFUL: Final[dict[str, Callable[[], bool]]] = {"cache": _cache, "broker": _broker, "beat": _beat}
