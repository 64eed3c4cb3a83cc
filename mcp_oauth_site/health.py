"""Liveness and readiness for operators and load balancers. Names of parts and `ok` or `failed`, never a cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog
from django.core.cache import cache
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from .canary import key_canary_opens
from .celery import app

_log = structlog.get_logger(__name__)


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Say that the process answers; touches nothing else."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Say part by part whether work can be done; 503 where one failed."""
    parts = {name: "ok" if _holds(name, check) else "failed" for name, check in _CHECKS.items()}
    ready = all(state == "ok" for state in parts.values())
    return JsonResponse({"status": "ok" if ready else "failed", "parts": parts}, status=200 if ready else 503)


def _holds(name: str, check: Callable[[], bool]) -> bool:
    """A part that raises has failed, whatever it raised; the log says what."""
    try:
        return check()
    except Exception:
        _log.exception("readiness check failed", name=name)
        return False


def _database() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return bool(cursor.fetchone() == (1,))


def _migrations() -> bool:
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def _cache() -> bool:
    cache.set("readyz", "1", timeout=10)
    return bool(cache.get("readyz") == "1")


def _broker() -> bool:
    with app.connection_for_write(connect_timeout=2) as broker:
        broker.ensure_connection(max_retries=1, timeout=2)
        return True


_CHECKS: Final[dict[str, Callable[[], bool]]] = {
    "database": _database,
    "migrations": _migrations,
    "keys": key_canary_opens,
    "cache": _cache,
    "broker": _broker,
}
