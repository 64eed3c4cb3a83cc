"""Real processes beside one another: many due at once, servers that hang, a database that goes, clocks that differ."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection, connections
from django.db.backends.postgresql.base import DatabaseWrapper as PostgresqlWrapper
from django.utils import timezone

from connections.database_time import by_database, offset
from connections.leases import IN_FLIGHT_PER_ISSUER
from connections.models import Connection, TokenSet
from oauthflow.flows.refresh.recovery import recover_abandoned
from oauthflow.flows.refresh_due import refresh_due
from tests.faults import fault
from tests.product import free_port

from .conftest import Victims, environment
from .grants import make_grants, seen, strict_server

pytestmark = [pytest.mark.chaos, pytest.mark.django_db(transaction=True)]

RUN = "batch to the end"
REAL_TIME = bool(os.environ.get("CHAOS_REAL_TIME"))


@fault("F17", "F02")
def test_what_ends_together_is_renewed_once_by_two_processes_with_twenty_under_way_at_most(
    victims: list[Victims],
) -> None:
    with strict_server(free_port(), latency=0.05) as origin:
        make_grants(origin, [f"many{number}" for number in range(300)], now=timezone.now(), issuers=2)
        for one in victims:
            one.start(RUN)
        assert [one.ended() for one in victims] == ["done", "done"]
        refresh_due(now=timezone.now())  # what one of them left to the other, and found crowded

        saw = seen(origin)
        assert TokenSet.objects.filter(generation=2).count() == 300
        assert (saw["requests"], saw["used_twice"], saw["parallel_same"], saw["dead"]) == (300, 0, 0, [])
        assert 1 < saw["most_at_once"] <= IN_FLIGHT_PER_ISSUER


@fault("F04")
def test_a_slow_server_is_asked_once_however_many_wait(victims: list[Victims]) -> None:
    with strict_server(free_port(), latency=3.0) as origin:
        (connection,) = make_grants(origin, ["slow"], now=timezone.now())
        TokenSet.objects.update(expires_at=timezone.now())
        for one in victims:
            one.start("crowd 5", connection.pk)
        assert [one.ended() for one in victims] == ["done", "done"]
        assert seen(origin)["requests"] == 1


@fault("F04")
@pytest.mark.parametrize(("seconds", "haste"), [(11, 5), (25, 5), (45, 2)])
def test_a_server_slower_than_most_locks_is_asked_once_and_its_answer_is_kept(
    victims: list[Victims], seconds: int, haste: int
) -> None:
    """All times are divided by the same number, the smaller the nearer the answer is to the deadline of 50 s.

    `CHAOS_REAL_TIME=1` leaves them as they are.
    """
    haste = 1 if REAL_TIME else haste
    with strict_server(free_port(), latency=seconds / haste) as origin:
        (connection,) = make_grants(origin, ["slow"], now=timezone.now())
        TokenSet.objects.update(expires_at=timezone.now())
        for one in victims:
            one.start(f"hasty {haste} 5", connection.pk)
        while not seen(origin)["requests"]:
            time.sleep(0.05)
        assert refresh_due(now=timezone.now()) == {"refreshed": 0, "failed": 0}
        assert [one.ended() for one in victims] == ["done", "done"]

        saw = seen(origin)
        assert (saw["requests"], saw["used_twice"], saw["dead"]) == (1, 0, [])
        connection.refresh_from_db()
        assert (connection.status, connection.tokens.generation) == ("active", 2)


@fault("F18")
def test_while_one_server_hangs_grants_of_another_are_renewed(victims: list[Victims]) -> None:
    now = timezone.now()
    with strict_server(free_port(), latency=40.0) as hanging, strict_server(free_port(), latency=0.02) as well:
        slow = make_grants(hanging, [f"slow{number}" for number in range(40)], now=now - timedelta(minutes=5))
        quick = make_grants(well, [f"quick{number}" for number in range(60)], now=now)
        victims[0].start(RUN)
        deadline = time.monotonic() + 35
        while TokenSet.objects.filter(connection__in=quick, generation=2).count() < len(quick):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert not TokenSet.objects.filter(connection__in=slow, generation=2).exists()
        assert 0 < seen(hanging)["most_at_once"] <= IN_FLIGHT_PER_ISSUER
        victims[0].kill()


@contextmanager
def database_goes_away(*, times: int) -> Iterator[None]:
    """PostgreSQL ends all sessions, again and again; SQLite is held by a writer that takes its time."""
    yield
    with connection.cursor() as cursor:
        for _ in range(times):
            if connection.vendor == "postgresql":
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                time.sleep(0.3)
            else:
                cursor.execute("BEGIN EXCLUSIVE")
                time.sleep(0.3)
                cursor.execute("ROLLBACK")
    for wrapper in connections.all():
        if isinstance(wrapper, PostgresqlWrapper) and wrapper.pool:
            wrapper.pool.check()  # all that earlier tests of this process had opened were ended too


@fault("F07")
def test_a_database_that_drops_everybody_loses_no_grant(victims: list[Victims]) -> None:
    with strict_server(free_port(), latency=0.3) as origin:
        make_grants(origin, [f"many{number}" for number in range(120)], now=timezone.now(), issuers=2)
        with database_goes_away(times=8):
            for one in victims:
                one.start(RUN)
        assert {one.ended() for one in victims} <= {"done", "failed"}
        # What a worker does from time to time.
        recover_abandoned(now=timezone.now())
        refresh_due(now=timezone.now())

        assert set(Connection.objects.values_list("status", flat=True)) == {"active"}
        saw = seen(origin)
        assert TokenSet.objects.filter(generation=2).count() == 120
        assert (saw["used_twice"], saw["dead"]) == (0, [])


@pytest.fixture
def shim(tmp_path: Path) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the shim with")
    library = str(tmp_path / "skewed.so")
    source = str(Path(__file__).with_name("skewed_clock.c"))
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


@fault("F19")
@pytest.mark.parametrize("skew", [300, -300])
def test_a_process_whose_clock_is_wrong_renews_what_is_due_and_nothing_else(
    victims: list[Victims], shim: str, skew: int
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one machine and its one clock")
    wrong = Victims(environment() | {"LD_PRELOAD": shim, "SKEW_SECONDS": str(skew)})
    with strict_server(free_port()) as origin:
        now = timezone.now()
        due, later = make_grants(origin, ["due", "later"], now=now)
        TokenSet.objects.filter(connection=later).update(refresh_due_at=now + timedelta(seconds=200))
        wrong.start(RUN)
        assert wrong.ended() == "done"
        wrong.close()

        renewed = TokenSet.objects.get(generation=2)
        assert renewed.connection == due
        assert renewed.expires_at is not None
        assert abs((renewed.expires_at - timezone.now()).total_seconds() - 3600) < 60


@fault("F19")
def test_a_small_difference_of_clocks_is_none(db: None) -> None:
    offset.forget()
    now = timezone.now()
    assert by_database(now) == now
