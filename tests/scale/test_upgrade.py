"""The next release comes while this one runs: no request fails, and a migration that was killed is run again. F21.

`UPGRADE_REQUESTS=10000` asks that many times instead of a few hundred.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.faults import fault
from tests.product import ROOT, free_port, wait_for

from .site import Site, ask, eventually, running_on_sqlite
from .traffic import traffic

pytestmark = [pytest.mark.scale, fault("F21")]

_NEXT = {"DJANGO_SETTINGS_MODULE": "tests.scale.next_release.settings"}
_REQUESTS = int(os.environ.get("UPGRADE_REQUESTS", "300"))


@pytest.fixture(params=["sqlite", "postgresql"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    if request.param == "postgresql":
        yield request.getfixturevalue("site")
        return
    with running_on_sqlite(tmp_path) as started:
        yield started


def test_the_next_release_migrates_under_traffic_even_if_it_is_killed(running: Site, tmp_path: Path) -> None:
    connections_due = 4
    token, connections = running.seed("upgraded", connections=connections_due, due=True)
    with traffic(running.webs, token=token, connections=connections) as flowing:
        if running.shared_data is None:
            with _table_in_use(running):
                refused = _prepare(running)
            assert "running this again is safe" in refused.stderr
            assert refused.returncode != 0
        _kill_in_the_middle(running, tmp_path / "in-the-middle")
        assert _applied(running) == ["0001_expand"]
        assert _prepare(running).returncode == 0
        assert len(_applied(running)) == 3
        with _next_web(running) as web:
            flowing.use(web)
            eventually(lambda: flowing.answered[web].total() > 10 and flowing.total >= _REQUESTS, seconds=60)
            assert {ask(f"{each}/readyz").status for each in (*running.webs, web)} == {200}
            eventually(lambda: len(_renewed(running)) == connections_due, seconds=90)
            flowing.stop()
    assert {status for counts in flowing.answered.values() for status in counts} == {200}
    assert set(_renewed(running).values()) == {1}


def _renewed(running: Site) -> dict[str, int]:
    """How often the server has seen each refresh token."""
    return {name: count for name, count in dict(running.upstream.seen).items() if name.startswith("refresh-upgraded-")}


def _prepare(site: Site, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `manage.py prepare` of the next release."""
    environment = site.environment_of("next") | _NEXT | variables
    command = [sys.executable, "manage.py", "prepare"]
    return subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False)


def _kill_in_the_middle(site: Site, reached: Path) -> None:
    environment = site.environment_of("next") | _NEXT | {"STOP_IN_THE_MIDDLE": str(reached)}
    process = subprocess.Popen([sys.executable, "manage.py", "prepare"], cwd=ROOT, env=environment)
    try:
        eventually(lambda: reached.exists() or process.poll() is not None, seconds=30)
        assert process.poll() is None, "it ended before it could be killed"
    finally:
        process.kill()
        process.wait()


@contextmanager
def _table_in_use(site: Site) -> Iterator[None]:
    """A transaction that does not end, as of somebody's report."""
    with psycopg.connect(site.environment["DATABASE_URL"]) as database:
        database.execute("SELECT count(*) FROM connections_tokenset")
        yield


def _applied(site: Site) -> list[str]:
    """The migrations of the next release that the database knows."""
    question = "SELECT name FROM django_migrations WHERE app = 'next_release' ORDER BY name"
    if site.shared_data is None:
        with psycopg.connect(site.environment["DATABASE_URL"]) as database:
            return [name for (name,) in database.execute(question)]
    with closing(sqlite3.connect(site.shared_data / "site.sqlite3")) as database:
        return [name for (name,) in database.execute(question)]


@contextmanager
def _next_web(site: Site) -> Iterator[str]:
    port = free_port()
    with site.role("web", "web-next", port=port, **_NEXT) as process:
        wait_for(f"http://localhost:{port}/healthz", process=process, log=site.logs["web-next"], seconds=300)
        yield f"http://localhost:{port}"
