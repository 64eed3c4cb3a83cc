"""An hour in which one issuer of 10,000 connections is down, and every fault a token server can have. F16, B1.

    python -m benchmarks.refresh_outage [--database sqlite] [--database postgresql --administration URL]
        [--count 10000] [--minutes 60]

Time is compressed: beat's runs are called one after the other, each with a clock that is a minute further on; within a
run the real clock goes on. All tokens are due when the outage begins, and end in the middle of it. For each fault there
are three runs, 40 s apart. Counted are token requests, and connections that somebody would have to sign in to again:
there must be none.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from urllib.parse import quote

from tests.product import free_port

from .database import Database
from .faulty_server import FAULTS
from .processes import ROOT
from .refresher import names, progress, require, run


def main() -> None:
    """Measure each database in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--minutes", type=int, default=60)
    run(_measure, parser)


def _measure(database: Database, options: argparse.Namespace) -> None:
    from django.utils import timezone

    from tests.chaos.grants import make_grants

    with _server() as origin:
        now = timezone.now()
        for first in range(0, options.count, 500):
            make_grants(origin, names(f"out{first}x", min(500, options.count - first)), now=now)
        now = _outage(database, origin, options, now=now)
        _faults(database, origin, options, now=now)


def _outage(database: Database, origin: str, options: argparse.Namespace, *, now: datetime) -> datetime:
    from connections.models import TokenSet
    from oauthflow.flows.refresh_due import refresh_due
    from tests.chaos.grants import seen

    TokenSet.objects.update(expires_at=now + timedelta(minutes=options.minutes / 2))
    _choose(origin, "503")
    for minute in range(options.minutes):
        refresh_due(now=now + timedelta(minutes=minute))
        progress(minute + 1, options.minutes, what="minutes of the outage")
    during = seen(origin)["requests"]
    _choose(origin, "none")
    back = now + timedelta(minutes=options.minutes)
    for minute in range(6):
        refresh_due(now=back + timedelta(minutes=minute))
    later = back + timedelta(minutes=6)
    fresh = TokenSet.objects.filter(generation__gt=1, expires_at__gt=later).count()
    print(
        f"{database.kind}, F16: {options.count} connections, {options.minutes} min without the issuer (compressed):"
        f" {during} token requests; 5 min after its return {fresh / options.count:.1%} fresh;"
        f" wrongly asked to sign in again {_asked()}",
        flush=True,
    )
    return later


def _faults(database: Database, origin: str, options: argparse.Namespace, *, now: datetime) -> None:
    from connections.models import Connection, TokenSet
    from oauthflow.flows.refresh_due import refresh_due
    from oauthflow.models import IssuerHealth
    from tests.chaos.grants import seen

    sent, elsewhere = [], _unreachable(origin)
    faults = [*FAULTS, *elsewhere]
    (endpoint,) = TokenSet.objects.values_list("token_endpoint", flat=True).distinct()
    for number, fault in enumerate(faults):
        IssuerHealth.objects.all().delete()
        TokenSet.objects.update(
            refresh_due_at=now, next_attempt_at=None, refresh_failures=0, token_endpoint=elsewhere.get(fault, endpoint)
        )
        before = seen(origin)["requests"]
        _choose(origin, "none" if fault in elsewhere else fault)
        for step in range(3):
            refresh_due(now=now + timedelta(seconds=40 * step))
        failed = Connection.objects.filter(status="degraded").count()
        sent.append(f"{fault} {seen(origin)['requests'] - before}")
        require(failed > 0 and not _asked(), f"{_asked()} were asked to sign in again after {fault}, {failed} degraded")
        now += timedelta(minutes=10)
        progress(number + 1, len(faults), what="faults")
    live = Connection.objects.filter(status__in=("active", "degraded")).count()
    require(live == options.count, f"{live} of {options.count} still live")
    print(
        f"{database.kind}: wrongly asked to sign in again after {len(faults)} faults, {options.count} connections:"
        f" {_asked()} (token requests in three runs each: {', '.join(sent)})"
    )


def _unreachable(origin: str) -> dict[str, str]:
    """Token endpoints that no request arrives at."""
    return {
        "no such host": "https://nowhere.invalid/token",
        "connection refused": f"http://127.0.0.1:{free_port()}/token",
        "no TLS there": f"{origin.replace('http:', 'https:')}/token",
    }


def _asked() -> int:
    from connections.models import Connection

    return Connection.objects.filter(status="reauth_required").count()


def _choose(origin: str, fault: str) -> None:
    with urllib.request.urlopen(f"{origin}/fault/{quote(fault)}", timeout=5):
        return


@contextmanager
def _server() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.faulty_server", str(port)], cwd=ROOT)
    try:
        yield _answering(f"http://127.0.0.1:{port}", process)
    finally:
        process.kill()
        process.wait()


def _answering(origin: str, process: subprocess.Popen[bytes]) -> str:
    from .processes import wait_for

    wait_for(origin, process=process, log=ROOT / "benchmarks" / "README.md")
    return origin


if __name__ == "__main__":
    main()
