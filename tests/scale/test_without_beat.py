"""A worker that hears of no beat renews what is due by itself, and the site says so."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.faults import fault

from .site import Site, ask, eventually, running_on_sqlite

pytestmark = pytest.mark.scale
IMPATIENT = {"DJANGO_SETTINGS_MODULE": "tests.scale.impatient"}


@fault("F06")
def test_on_sqlite_a_worker_without_beat_renews_what_is_due_and_the_site_is_degraded(tmp_path: Path) -> None:
    with running_on_sqlite(tmp_path, only=("web", "worker"), **IMPATIENT) as site:
        _is_renewed_unasked(site, worker="worker")
        # The web process may have begun later than the worker, and so may its patience with beat.
        eventually(lambda: ask(f"{site.webs[0]}/readyz").body["parts"]["beat"] == "degraded", seconds=2)
        ready = ask(f"{site.webs[0]}/readyz")
        assert (ready.status, ready.body["status"]) == (200, "degraded")


@fault("F06")
def test_on_postgresql_a_worker_without_beat_renews_what_is_due(site: Site) -> None:
    site.processes["beat"].send_signal(signal.SIGINT)
    site.processes["beat"].wait()
    with site.role("worker", "beatless", **IMPATIENT):
        _is_renewed_unasked(site, worker="beatless")


def _is_renewed_unasked(site: Site, *, worker: str) -> None:
    eventually(lambda: "ready" in site.logs[worker].read_text(), seconds=30)
    site.seed("silence", due=True)
    eventually(lambda: site.upstream.seen["refresh-silence-0"] > 0, seconds=10)
    eventually(lambda: "beat is silent" in site.logs[worker].read_text(), seconds=1)
    assert site.upstream.seen["refresh-silence-0"] == 1
