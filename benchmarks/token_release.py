"""Compare releasing a token with the same endpoint in plain Django REST framework, in alternating rounds.

    python -m benchmarks.token_release [--database sqlite] [--database postgresql --administration URL]
        [--connections 1,16,64] [--calls 3000] [--rounds 5]

Targets: plain DRF, without any record (the reference); plain DRF that inserts a row for each release; plain DRF that
appends to the same chained, committed audit record as the fast path; our own DRF view, which answers what the fast path
does not; and the fast path. CPU per thousand calls is of the target's processes, with the database server's beside it;
ratios are taken within each round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.product import free_port

from .database import Database, fresh_database
from .load import Call, drive, post
from .processes import ROOT, cpu_seconds, machine_seconds
from .site import Site, running_site

# A header that makes a call unusual, so that Django answers it.
_TO_THE_VIEW: Final = {"Cookie": "unusual=1"}
_PLAIN: Final = {
    "plain DRF": (), "plain DRF + a row": ("--record", "row"), "plain DRF + the chain": ("--record", "chain"),
}  # fmt: skip


@dataclass(slots=True)
class Target:
    """Something that releases tokens. `weight` scales the number of calls, so that slow targets do not take hours."""

    name: str
    port: int
    pid: int
    calls: list[Call]
    weight: float
    released: int = 0
    figures: dict[int, list[Figures]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figures:
    """One round of one target at one number of connections; times in seconds, CPU in seconds per 1,000 calls."""

    rate: float
    cpu: float
    database_cpu: float
    p50: float
    p99: float
    foreign: float


def main() -> None:
    """Measure, print a table for each database, and fail if any answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), action="append")
    parser.add_argument("--administration", default="", help="a PostgreSQL database whose user may create others")
    parser.add_argument("--connections", default="1,16,64")
    parser.add_argument("--calls", type=int, default=3000, help="of the fast path, in each round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    levels = [int(level) for level in options.connections.split(",")]
    for kind in options.database or ["sqlite"]:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, ExitStack() as stack:
            targets, sites, server = _start(kind, Path(folder), options.administration, stack)
            for connections in levels:
                _measure(targets, connections, server, calls=options.calls, rounds=options.rounds)
            _print(kind, targets, levels)
            _check(sites, targets)


def _start(kind: str, folder: Path, administration: str, stack: ExitStack) -> tuple[list[Target], list[Site], int]:
    targets = []
    for name, flags in _PLAIN.items():
        database = stack.enter_context(fresh_database(kind, folder=folder, administration=administration))
        targets.append(stack.enter_context(_plain(name, database, flags)))
    sites = []
    for name, headers, weight in (("our DRF view", _TO_THE_VIEW, 0.1), ("fast path", {}, 1.0)):
        database = stack.enter_context(fresh_database(kind, folder=folder, administration=administration))
        site = stack.enter_context(running_site(database, folder=folder))
        bearer = {"Authorization": f"Bearer {site.filled['token']}", **headers}
        calls = _released(site.port, site.filled["connections"], bearer)
        targets.append(Target(name, site.port, site.pid, calls, weight))
        sites.append(site)
    return targets, sites, database.server_pid


@contextmanager
def _plain(name: str, database: Database, flags: Sequence[str]) -> Iterator[Target]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.plain_drf", str(port), database.url, *flags]
    process = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, text=True)
    try:
        filled = json.loads(process.stdout.readline() if process.stdout else "")
        headers = {"Authorization": f"Token {filled['token']}"}
        yield Target(name, port, process.pid, _released(port, filled["connections"], headers), 0.25)
    finally:
        process.terminate()
        process.wait()


def _released(port: int, connections: Sequence[object], headers: dict[str, str]) -> list[Call]:
    """One call for each connection; its answer has to hold that connection's token."""
    return [
        post(f"http://localhost:{port}/api/v1/connections/{each}/token", headers=headers, expected=f'"upstream-{n}"')
        for n, each in enumerate(connections)
    ]


def _measure(targets: Sequence[Target], connections: int, server: int, *, calls: int, rounds: int) -> None:
    for target in targets:
        _round(target, connections, server, count=max(connections * 2, 100))  # imports, caches, connections
    for target in targets:
        target.figures[connections] = []
    for number in range(rounds):
        for target in targets if number % 2 == 0 else reversed(targets):
            count = max(connections * 4, int(calls * target.weight))
            target.figures[connections].append(_round(target, connections, server, count=count))


def _round(target: Target, connections: int, server: int, *, count: int) -> Figures:
    before = _spent(target, server)
    busy = machine_seconds()
    outcome = drive(target.port, target.calls, connections=connections, count=count)
    busy = machine_seconds() - busy
    ours, database, generator = (late - early for early, late in zip(before, _spent(target, server), strict=True))
    if outcome.bad:
        raise SystemExit(f"{target.name}: {len(outcome.bad)} wrong answers, the first: {outcome.bad[0]}")
    target.released += count
    slowest_last = sorted(outcome.latencies)
    return Figures(
        rate=count / outcome.seconds,
        cpu=ours / count * 1000,
        database_cpu=database / count * 1000,
        p50=slowest_last[len(slowest_last) // 2],
        p99=slowest_last[int(len(slowest_last) * 0.99)],
        foreign=max(0.0, busy - ours - database - generator) / outcome.seconds / (os.cpu_count() or 1),
    )


def _spent(target: Target, server: int) -> tuple[float, float, float]:
    """CPU seconds so far of the target, the database server and this generator."""
    return cpu_seconds(target.pid), cpu_seconds(server) if server else 0.0, time.process_time()


def _print(kind: str, targets: Sequence[Target], levels: Sequence[int]) -> None:
    print(f"\n{kind}: median (min–max)\n")
    titles = (
        "connections", "target", "calls/s", "CPU-s/1k", "of the database", "p50 ms", "p99 ms",
        "its CPU ÷ the fast path's", "the fast path's calls/s ÷ its",
    )  # fmt: skip
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    for level in levels:
        fast_path = targets[-1].figures[level]
        for target in targets:
            found = target.figures[level]
            columns = [
                _spread([each.rate for each in found], 0), _spread([each.cpu for each in found], 4),
                _spread([each.database_cpu for each in found], 4), _spread([each.p50 * 1e3 for each in found], 2),
                _spread([each.p99 * 1e3 for each in found], 2),
                _spread([each.cpu / fast.cpu for fast, each in zip(fast_path, found, strict=True)], 1),
                _spread([fast.rate / each.rate for fast, each in zip(fast_path, found, strict=True)], 1),
            ]  # fmt: skip
            print(f"| {level} | {target.name} | " + " | ".join(columns) + " |")
    foreign = [each.foreign for target in targets for level in levels for each in target.figures[level]]
    print(f"\nOther people's share of the machine meanwhile: {_spread([100 * share for share in foreign], 0)} %")


def _check(sites: Sequence[Site], targets: Sequence[Target]) -> None:
    """Every release of ours has its record, and the chains hold."""
    for site in sites:
        (target,) = (target for target in targets if target.pid == site.pid)
        recorded = site.recorded_releases()
        if recorded != target.released:
            raise SystemExit(f"{target.released} tokens were released and {recorded} releases recorded")
        print(f"{target.name}: {recorded} releases, as many records, and the chain holds.")


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
