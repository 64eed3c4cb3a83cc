"""A worker that is stopped keeps the answers that are under way, and begins nothing new."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.serving import seen, strict_server
from tests.faults import fault
from tests.product import free_port

from .site import Site, eventually, running_on_sqlite

pytestmark = pytest.mark.scale
LATENCY = 2.0
COUNT = 400
"""Due at one server that has 18 under way at most: three quarters of a minute, where nobody stops it."""
SOON = 25.0


@fault("F01")
@pytest.mark.parametrize(("has_beat", "latency"), [(True, LATENCY), (False, 8.0)], ids=["task", "stand-in"])
def test_up_on_sqlite_ends_with_the_answers_under_way(tmp_path: Path, has_beat: bool, latency: float) -> None:
    """The stand-in's thread has nobody but us to wait for it; everything else of a worker has ended sooner."""
    only, settings = ((), {}) if has_beat else (("web", "worker"), {"DJANGO_SETTINGS_MODULE": "tests.scale.impatient"})
    with (
        strict_server(free_port(), latency=latency) as origin,
        running_on_sqlite(tmp_path, only=only, **settings) as site,
    ):
        _make_due(site, origin)
        if has_beat:
            site.run(_WAKE)
        up = site.processes["all" if has_beat else "worker"]
        _stopped_amid(origin, lambda: up.send_signal(signal.SIGTERM), lambda: up.poll() is not None)
        assert 0 < _lossless(site, origin) < COUNT


@fault("F01")
def test_on_postgresql_the_processes_of_a_stopped_workers_pool_end_so_too(site: Site) -> None:
    """Whoever sends the signal to the worker itself: `up` starts it again, and it goes on."""
    with strict_server(free_port(), latency=LATENCY) as origin:
        _make_due(site, origin)
        site.run(_WAKE)
        workers = [_child_of(site.processes[name].pid) for name in ("worker-1", "worker-2")]
        _stopped_amid(
            origin,
            lambda: _tell(workers),
            lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers),
        )
        assert 0 < _lossless(site, origin) < COUNT
        site.run(_END)
        eventually(
            lambda: all(site.logs[name].read_text().count("ready") > 1 for name in ("worker-1", "worker-2")), seconds=30
        )


def _stopped_amid(origin: str, stop: Callable[[], object], has_ended: Callable[[], bool]) -> None:
    """Stop it while requests are under way; it ends soon after their answers."""
    eventually(lambda: int(seen(origin)["requests"]) > 0, seconds=10)
    time.sleep(LATENCY / 2)  # all that there is room for is under way
    stop()
    began = time.monotonic()
    while not has_ended():
        assert time.monotonic() - began < SOON
        time.sleep(0.05)


def _lossless(site: Site, origin: str) -> int:
    """Each request's answer is stored, and no token was used twice; return how many were renewed."""
    saw = seen(origin)
    renewed, leased, active = map(int, site.run(_COUNTS).split())
    assert (saw["used_twice"], saw["dead"], leased, active) == (0, [], 0, COUNT)
    assert renewed == saw["requests"]
    return renewed


def _tell(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGTERM)


def _make_due(site: Site, origin: str) -> None:
    site.run(_MAKE.format(origin=origin, count=COUNT))


def _child_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


_MAKE = """
from django.utils import timezone
from tests.chaos.grants import make_grants
make_grants("{origin}", [f"n{{number}}" for number in range({count})], now=timezone.now())
"""
_WAKE = """
from mcp_oauth_site.celery import app
app.send_task("oauthflow.tasks.refresh_due_tokens", ignore_result=True)
"""
_COUNTS = """
from connections.models import Connection, TokenSet
chaos = TokenSet.objects.filter(connection__server__slug="chaos")
active = Connection.objects.filter(server__slug="chaos", status="active")
print(chaos.filter(generation=2).count(), chaos.exclude(lease_owner="").count(), active.count())
"""
_END = """
from connections.models import McpServer
McpServer.objects.filter(slug="chaos").delete()
"""
