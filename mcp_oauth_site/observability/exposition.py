"""`/metrics`: text for Prometheus, and who may read it.

With METRICS_TOKEN, whoever sends it as bearer token. Without, only programs on this machine, and only while the site
itself is for this machine alone; everywhere else the address does not exist.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from ..env import is_loopback
from .folders import VARIABLE
from .state import StateCollector

_FORWARDED: Final = (
    "HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_REAL_IP",
)  # fmt: skip


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer with the metrics of all processes of this `manage.py up`, and the state of the database."""
    status = refusal(request.META)
    if status:
        headers = {"WWW-Authenticate": 'Bearer realm="metrics"'} if status == 401 else {}
        return HttpResponse(status=status, headers=headers, content_type="text/plain")
    return HttpResponse(exposition(os.environ.get(VARIABLE, ""), _state()), content_type=CONTENT_TYPE_LATEST)


def refusal(environ: Mapping[str, object]) -> int:
    """Return the status with which a request is refused, or 0. Takes the keys of WSGI and of `request.META`."""
    token = settings.METRICS_TOKEN.reveal()
    if token:
        given = str(environ.get("HTTP_AUTHORIZATION", ""))
        return 0 if hmac.compare_digest(given.encode(), f"Bearer {token}".encode()) else 401
    is_near = (
        is_loopback(_bare_host(settings.PUBLIC_HOST))
        and is_loopback(_bare_host(str(environ.get("HTTP_HOST", ""))))
        and is_loopback(str(environ.get("REMOTE_ADDR") or "unknown"))
        and not any(environ.get(name) for name in _FORWARDED)
    )
    return 0 if is_near else 404


def exposition(folder: str, *collectors: Collector) -> bytes:
    """Return the text of the metrics that processes left in a folder; without a folder, those of this process."""
    registry = CollectorRegistry()
    if folder:
        MultiProcessCollector(registry, path=folder)
    else:
        registry.register(_Shared())
    for collector in collectors:
        registry.register(collector)
    return bytes(generate_latest(registry))


class _Shared(Collector):
    """What this process counted."""

    def collect(self) -> Iterable[Metric]:
        return REGISTRY.collect()


@cache
def _state() -> StateCollector:
    return StateCollector()


def _bare_host(host: str) -> str:
    """Return a host without its port."""
    return host if host.endswith("]") else host.partition(":")[0] if host.count(":") == 1 else host.rpartition(":")[0]
