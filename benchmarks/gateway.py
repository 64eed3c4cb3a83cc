"""Compare the gateway with nginx that exchanges the token, with the server itself, and with gateways of others.

    python -m benchmarks.gateway [--database sqlite] [--database postgresql --administration URL]
        [--connections 1,16,64] [--calls 3000] [--rounds 5] [--mode modern] [--other COMMAND …]

`tools/call` of about 100 bytes over kept connections of 16 people, each with a token and an upstream token of their
own, in alternating rounds. nginx holds one token and its exchange in its configuration: the reference of all ratios,
which are taken within each round. All duties of ours are on: the token is verified, revocation asked, policy and limits
looked at, the call recorded. `--other` starts a gateway of others in front of the same stub; see the README.

Then: what the gateway costs beside a server on the official SDK behind it, and when the first of three progress events
arrives.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .gateway_stage import Stage, running_stage
from .mcp_load import Outcome, Target, drive, drive_streams, percentile
from .processes import cpu_seconds, machine_seconds
from .refresher import fernet_seconds

_Drive = Callable[..., Outcome]


@dataclass(frozen=True, slots=True)
class Figures:
    """One round of one target: calls a second, CPU seconds per 1,000 calls, milliseconds, shares of the machine."""

    rate: float
    cpu: float
    database_cpu: float
    p50: float
    p99: float
    first: float
    foreign: float


def main() -> None:
    """Measure, print, and fail if any answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), action="append")
    parser.add_argument("--administration", default="", help="a PostgreSQL database whose user may create others")
    parser.add_argument("--connections", default="1,16,64")
    parser.add_argument("--calls", type=int, default=3000, help="in each round, of all but gateways of others")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mode", choices=("modern", "session", "stateless"), default="modern")
    parser.add_argument("--other", action="append", default=[], help="a command; {upstream} and {port} are filled in")
    options = parser.parse_args()
    for kind in options.database or ["sqlite"]:
        with (
            tempfile.TemporaryDirectory(prefix="benchmark-") as folder,
            running_stage(
                kind, folder=Path(folder), administration=options.administration, others=options.other,
                mode=options.mode,
            ) as stage,
        ):  # fmt: skip
            print(f"\n{kind}, {options.mode}: median (min–max) of {options.rounds} rounds")
            targets = [stage.nginx, stage.direct, stage.ours, *stage.others]
            for connections in (int(level) for level in options.connections.split(",")):
                _calls(stage, targets, connections, options)
            _beside_sdk(stage, options)
            _first_events(stage, options)


def _calls(stage: Stage, targets: Sequence[Target], connections: int, options: argparse.Namespace) -> None:
    found = _rounds(stage, targets, drive, connections, calls=options.calls, rounds=options.rounds)
    reference, direct, ours = found["nginx"], found["direct"], found["ours (stub)"]
    print(
        f"\n| {connections} connections | calls/s | CPU-s/1k | of the database | p50 ms | p99 ms | CPU ÷ nginx |",
        end="",
    )
    print(" p50 − direct ms | p99 ÷ nginx | ours ÷ it, calls/s |\n|---|---|---|---|---|---|---|---|---|---|")
    for name, figures in found.items():
        columns = [
            _spread([each.rate for each in figures], 0), _spread([each.cpu for each in figures], 4),
            _spread([each.database_cpu for each in figures], 4), _spread([each.p50 for each in figures], 2),
            _spread([each.p99 for each in figures], 2),
            _spread([each.cpu / base.cpu for each, base in zip(figures, reference, strict=True)], 1),
            _spread([each.p50 - base.p50 for each, base in zip(figures, direct, strict=True)], 2),
            _spread([each.p99 / base.p99 for each, base in zip(figures, reference, strict=True)], 1),
            _spread([mine.rate / each.rate for mine, each in zip(ours, figures, strict=True)], 2),
        ]  # fmt: skip
        print(f"| {name} | " + " | ".join(columns) + " |")
    _print_foreign(found)


def _beside_sdk(stage: Stage, options: argparse.Namespace) -> None:
    """The gateway's CPU beside that of the server behind it, in the same calls."""
    shares = []
    drive(stage.before_sdk, connections=16, calls=200)
    for _ in range(options.rounds):
        before = cpu_seconds(stage.site.pid), cpu_seconds(stage.sdk_pid)
        _require_good(stage.before_sdk, drive(stage.before_sdk, connections=16, calls=options.calls))
        after = cpu_seconds(stage.site.pid), cpu_seconds(stage.sdk_pid)
        shares.append((after[0] - before[0]) / (after[1] - before[1]))
    print(f"\nCPU of the gateway ÷ that of a server on the official SDK behind it: {_spread(shares, 2)}")


def _first_events(stage: Stage, options: argparse.Namespace) -> None:
    for connections in (1, 16):
        found = _rounds(
            stage, [stage.nginx, stage.direct, stage.ours], drive_streams, connections,
            calls=max(50, connections * 10), rounds=options.rounds,
        )  # fmt: skip
        pairs = zip(found["ours (stub)"], found["direct"], strict=True)
        later = _spread([each.first - base.first for each, base in pairs], 2)
        print(f"First event, {connections} streams: {later} ms later than direct; all events came.")


def _rounds(
    stage: Stage, targets: Sequence[Target], work: _Drive, connections: int, *, calls: int, rounds: int
) -> dict[str, list[Figures]]:
    found: dict[str, list[Figures]] = {target.name: [] for target in targets}
    for target in targets:
        _round(stage, target, work, connections, calls=max(connections * 2, int(200 * target.weight)))
    for number in range(rounds):
        turn = number % len(targets)
        for target in (*targets[turn:], *targets[:turn]):
            count = max(connections * 2, int(calls * target.weight))
            found[target.name].append(_round(stage, target, work, connections, calls=count))
    return found


def _round(stage: Stage, target: Target, work: _Drive, connections: int, *, calls: int) -> Figures:
    before, busy = _spent(stage, target), machine_seconds()
    outcome = _require_good(target, work(target, connections=connections, calls=calls))
    busy = machine_seconds() - busy
    mine, database, side = (late - early for early, late in zip(before, _spent(stage, target), strict=True))
    return Figures(
        rate=calls / outcome.seconds,
        cpu=mine / calls * 1000,
        database_cpu=database / calls * 1000,
        p50=percentile(outcome.latencies, 0.5) * 1e3,
        p99=percentile(outcome.latencies, 0.99) * 1e3,
        first=percentile(outcome.firsts, 0.5) * 1e3,
        foreign=max(0.0, busy - mine - database - side) / outcome.seconds / (os.cpu_count() or 1),
    )


def _spent(stage: Stage, target: Target) -> tuple[float, float, float]:
    """CPU seconds so far of the target, of the database server, and of the generator with the stub."""
    server = stage.database.server_pid
    side = time.process_time() + (0.0 if stage.stub_pid in target.pids else cpu_seconds(stage.stub_pid))
    return sum(cpu_seconds(pid) for pid in target.pids), cpu_seconds(server) if server else 0.0, side


def _require_good(target: Target, outcome: Outcome) -> Outcome:
    if outcome.bad:
        raise SystemExit(f"{target.name}: {len(outcome.bad)} wrong answers, the first: {outcome.bad[0]}")
    return outcome


def _print_foreign(found: dict[str, list[Figures]]) -> None:
    shares = [100 * each.foreign for figures in found.values() for each in figures]
    fernet = f"a Fernet encryption {fernet_seconds() * 1e6:.1f} µs of CPU"
    print(f"\nOther people's share of the machine meanwhile: {_spread(shares, 0)} %; {fernet}")


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
