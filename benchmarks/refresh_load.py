"""10,000 connections under `manage.py up`: none due, then all due in one minute. P19, F17.

    python -m benchmarks.refresh_load [--database sqlite] [--database postgresql --administration URL] [--redis]
        [--count 10000] [--issuers 1] [--latency 0.1] [--rest 60]

Web process, worker with beat and supervisor run as a person starts them; with `--redis` messages go through a Redis of
their own, whose CPU is not counted. At rest: CPU of all of them over `--rest` seconds, after they have settled. Then
every row becomes due at a moment within one minute, with tokens that end five minutes after that; the server answers
after 100 ms and counts. The whole takes some five minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.serving import seen, strict_server
from tests.product import free_port
from tests.scale.services import PrivateRedis

from .database import Database, on_each
from .processes import cpu_seconds, machine_seconds, running
from .refresher import progress, require
from .site import manage, shell, site_environment

_FILL = """
from datetime import timedelta
from django.utils import timezone
from connections.models import TokenSet
from tests.chaos.grants import make_grants
now = timezone.now()
for n in range(0, {count}, 500):
    names = [f"load{{k}}" for k in range(n, min(n + 500, {count}))]
    make_grants("{origin}", names, now=now, issuers={issuers})
TokenSet.objects.update(expires_at=now + timedelta(days=2), refresh_due_at=now + timedelta(days=1))
"""
_ALL_DUE = """
import random
from datetime import timedelta
from django.utils import timezone
from connections.models import TokenSet
now, rows = timezone.now(), list(TokenSet.objects.only("pk"))
for row in rows:
    row.refresh_due_at = now + timedelta(seconds=random.uniform(0, 60))
    row.expires_at = row.refresh_due_at + timedelta(minutes=5)
TokenSet.objects.bulk_update(rows, ["refresh_due_at", "expires_at"], batch_size=500)
"""
_STATE = """
import json
from audit.models import AuditRecord
from connections.models import Connection, TokenSet
records = AuditRecord.objects.filter(event="token.refreshed")
left = [details["seconds_left"] for details in records.values_list("details", flat=True)]
print(json.dumps({"renewed": TokenSet.objects.filter(generation=2).count(), "least_left": min(left, default=0),
                  "active": Connection.objects.filter(status="active").count()}))
"""
# Each process of a pool imports and connects at its first task.
_SETTLE_SECONDS, _LONGEST_SECONDS = 90.0, 600.0


def main() -> None:
    """Measure each database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--issuers", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--rest", type=float, default=60.0)
    parser.add_argument("--redis", action="store_true", help="a broker, and workers as on several machines")
    on_each(_measure, parser)


def _measure(database: Database, folder: Path, options: argparse.Namespace) -> None:
    port = free_port()
    environment = site_environment(folder, port=port, DATABASE_URL=database.url, EGRESS_ALLOW="127.0.0.1")
    command = [sys.executable, "manage.py", "up", "--port", str(port)]
    with strict_server(free_port(), latency=options.latency) as origin, ExitStack() as stack:
        if options.redis:
            redis = PrivateRedis(folder)
            redis.start()
            stack.callback(redis.stop)
            environment["REDIS_URL"] = redis.url
        manage("migrate", "-v0", environment=environment)
        shell(_FILL.format(count=options.count, origin=origin, issuers=options.issuers), environment=environment)
        ready = f"http://localhost:{port}/healthz"
        started = running(command, environment=environment, log=folder / "site.log", ready=ready)
        process = stack.enter_context(started)
        _at_rest(database, process.pid, options)
        _all_due(database, environment, origin, options)


def _at_rest(database: Database, root: int, options: argparse.Namespace) -> None:
    time.sleep(_SETTLE_SECONDS)
    started, before = time.perf_counter(), (cpu_seconds(root), _server(database), machine_seconds())
    while (passed := time.perf_counter() - started) < options.rest:
        progress(int(passed), int(options.rest), what="at rest")
        time.sleep(1.0)
    own, server, machine = (
        (after - one) / passed
        for after, one in zip((cpu_seconds(root), _server(database), machine_seconds()), before, strict=True)
    )
    print(
        f"{database.kind}, P19: {options.count} connections, none due: all processes {own:.2%} of a core"
        f" (database {server:.2%}) over {passed:.0f} s; everybody on this machine {machine:.0%}",
        flush=True,
    )


def _all_due(database: Database, environment: Mapping[str, str], origin: str, options: argparse.Namespace) -> None:
    settings = dict(environment)
    shell(_ALL_DUE, environment=settings)
    started = time.perf_counter()
    while (requests := seen(origin)["requests"]) < options.count and time.perf_counter() - started < _LONGEST_SECONDS:
        progress(requests, options.count, what="all due")
        time.sleep(1.0)
    seconds = time.perf_counter() - started
    time.sleep(2.0)
    state, saw = json.loads(shell(_STATE, environment=settings)), seen(origin)
    require(state["renewed"] == options.count == state["active"], f"{state} of {options.count}; {saw['requests']}")
    print(
        f"{database.kind}, F17: {options.count} due within one minute at {options.issuers} issuer(s), {options.latency}"
        f" s each: all renewed {seconds:.0f} s after the minute began, the last with {state['least_left']} s left;"
        f" most at once per issuer {saw['most_at_once']}, tokens used twice {saw['used_twice']}",
        flush=True,
    )


def _server(database: Database) -> float:
    return cpu_seconds(database.server_pid) if database.server_pid else 0.0


if __name__ == "__main__":
    main()
