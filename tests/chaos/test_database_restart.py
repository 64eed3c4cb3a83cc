"""PostgreSQL crashes and recovers in the middle of refreshes, again and again. F07."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.beside import Beside
from tests.faults import fault
from tests.product import free_port
from tests.scale.services import private_postgresql

from .conftest import Victims, environment
from .grants import ROOT, seen, strict_server

pytestmark = pytest.mark.chaos

COUNT = 360
CRASHES_AFTER = (20, 100, 180)
"""How many requests the server has seen then."""
RUNS = len(CRASHES_AFTER) + 1
"""A run that a crash breaks off is followed by the next."""

_MAKE = """
from django.utils import timezone
from tests.chaos.grants import make_grants
make_grants({origin!r}, [f"many{{number}}" for number in range({count})], now=timezone.now(), issuers=2)
"""
_LOOK_AFTER = """
from django.utils import timezone
from connections.database_time import by_database
from connections.models import Connection, TokenSet
from oauthflow.flows.refresh_due import refresh_due
refresh_due(now=by_database(timezone.now()))
print(TokenSet.objects.filter(generation=2).count(), *Connection.objects.order_by().values_list("status").distinct())
"""


@fault("F07")
def test_a_database_that_crashes_under_refreshes_loses_no_grant_and_sends_no_token_twice(tmp_path: Path) -> None:
    with (
        private_postgresql() as database,
        strict_server(free_port(), latency=0.3) as origin,
        ExitStack() as stack,
    ):
        site = environment() | {"DATABASE_URL": database.url, "DATA_DIR": str(tmp_path)}
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=site, check=True)
        worker = stack.enter_context(closing(Beside(site)))
        worker.run(_MAKE.format(origin=origin, count=COUNT))
        victims = [stack.enter_context(closing(Victims(site))) for _ in range(2)]
        for one in victims * RUNS:
            one.start("batch to the end")
        for requests in CRASHES_AFTER:
            assert requests <= _wait_for_requests(origin, requests) < COUNT
            database.restart()
        assert {one.ended() for one in victims * RUNS} <= {"done", "failed"}

        assert worker.run(_LOOK_AFTER) == f"{COUNT} ('active',)"
        saw = seen(origin)
        assert (saw["requests"], saw["used_twice"], saw["dead"]) == (COUNT, 0, [])


def _wait_for_requests(origin: str, count: int) -> int:
    """Return how many there were then."""
    deadline = time.monotonic() + 120
    while (requests := int(seen(origin)["requests"])) < count:
        assert time.monotonic() < deadline, f"{requests} of {count}"
        time.sleep(0.02)
    return requests
