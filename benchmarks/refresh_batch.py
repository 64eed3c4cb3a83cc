"""Refresh 10,000 due tokens of 100 issuers that answer after 50 ms, and compare with one after the other.

    python -m benchmarks.refresh_batch [--database sqlite] [--database postgresql --administration URL]
        [--count 10000] [--issuers 100] [--latency 0.05] [--in-turn 100]

One process does all the work, as a worker does it: leases, requests, spool, rows, audit records, events. The server is
strict: it rotates, and a second use of a token would end its family. CPU is of this process and, in brackets, of the
database server. The same run renews some tokens one after the other, for the ratio.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from .database import Database, fresh_database
from .processes import cpu_seconds, free_port


def main() -> None:
    """Measure each database in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--administration", default="")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--issuers", type=int, default=100)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--in-turn", type=int, default=100)
    options = parser.parse_args()
    for kind in options.database or ["sqlite"]:
        with (
            tempfile.TemporaryDirectory() as folder,
            fresh_database(kind, folder=Path(folder), administration=options.administration) as database,
        ):
            child = os.fork()
            if child == 0:
                _measure(database, Path(folder), options)
                sys.stdout.flush()
                os._exit(0)
            os.waitpid(child, 0)


def _measure(database: Database, folder: Path, options: argparse.Namespace) -> None:
    os.environ |= {
        "DATABASE_URL": database.url, "DATA_DIR": str(folder), "DEBUG": "true", "EGRESS_ALLOW": "127.0.0.1",
        "REDIS_URL": "", "DJANGO_SETTINGS_MODULE": "mcp_oauth_site.settings",
    }  # fmt: skip
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command
    from django.utils import timezone

    settings.DEBUG = False
    call_command("migrate", verbosity=0)
    from audit.models import AuditRecord
    from connections.models import TokenSet
    from oauthflow.flows.refresh.owners import end_session
    from oauthflow.flows.refresh_due import refresh_due, refresh_due_in_turn
    from tests.chaos.grants import make_grants, seen, strict_server

    with strict_server(free_port(), latency=options.latency) as origin:
        make_grants(origin, [f"t{n}" for n in range(options.in_turn)], now=timezone.now(), issuers=options.issuers)
        seconds, in_turn = _timed(lambda: refresh_due_in_turn(now=timezone.now()))
        turn_rate = in_turn["refreshed"] / seconds
        make_grants(origin, [f"b{n}" for n in range(options.count)], now=timezone.now(), issuers=options.issuers)
        before, database_before = time.process_time(), cpu_seconds(database.server_pid) if database.server_pid else 0.0
        seconds, outcome = _timed(lambda: refresh_due(now=timezone.now()))
        cpu = time.process_time() - before
        database_cpu = cpu_seconds(database.server_pid) - database_before if database.server_pid else 0.0
        saw = seen(origin)
        rate, thousands = outcome["refreshed"] / seconds, options.count / 1000
        renewed = TokenSet.objects.filter(generation=2, lease_owner="").count()
        records = AuditRecord.objects.filter(event="token.refreshed").count()
        print(
            f"{database.kind}: {outcome['refreshed']} refreshed, {outcome['failed']} failed in {seconds:.2f} s,"
            f" {rate:,.0f}/s; CPU {cpu / thousands:.3f} (+ {database_cpu / thousands:.3f}) s per 1,000;"
            f" one after the other {turn_rate:.1f}/s, ratio {rate / turn_rate:.0f};"
            f" rows renewed {renewed}, audit records {records}, tokens used twice {saw['used_twice']},"
            f" most at once per issuer {saw['most_at_once']}"
        )
    end_session()


def _timed(work: Callable[[], dict[str, int]]) -> tuple[float, dict[str, int]]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
