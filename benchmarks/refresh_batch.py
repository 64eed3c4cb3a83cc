"""Refresh 10,000 due tokens of 100 issuers that answer after 50 ms, beside the same job done bare. P14, P15.

    python -m benchmarks.refresh_batch [--database sqlite] [--database postgresql --administration URL]
        [--latency 0.05] [--count 10000] [--issuers 100] [--rounds 3] [--in-turn 100]

One process does all the work, as a worker does it: leases, requests, spool, rows, audit records, events. The server is
strict: it rotates, and a second use of a token would end its family. The reference (`bare_refresher.py`) does the bare
job, 256 at a time, in alternating rounds against the same server. CPU is of this process and, in brackets, of the
database server. Medians come with the least and the greatest; ratios are taken in each round. The same run renews some
tokens one after the other, for the ratio to that. `--latency` may be given several times.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence

from tests.product import free_port

from .bare_refresher import BareRefresher
from .database import Database
from .refresher import cost, names, progress, require, run

_BARE_IN_FLIGHT = 256
Cost = dict[str, float]


def main() -> None:
    """Measure each database in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, action="append")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--issuers", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-turn", type=int, default=100)
    run(_measure, parser)


def _measure(database: Database, options: argparse.Namespace) -> None:
    from oauthflow.flows.refresh.owners import end_session
    from oauthflow.flows.refresh_due import refresh_due, refresh_due_in_turn
    from tests.chaos.grants import seen, strict_server

    for number, latency in enumerate(options.latency or [0.05]):
        with strict_server(free_port(), latency=latency) as origin:
            turn = _ours(database, origin, f"t{number}", options.in_turn, options, refresh_due_in_turn)
            ours, bare = [], []
            for done in range(options.rounds):
                families = f"{number}x{done}x"
                ours.append(_ours(database, origin, f"r{families}", options.count, options, refresh_due))
                bare.append(_bare(database, origin, names(f"b{families}", options.count), options))
                progress(done + 1, options.rounds, what=f"{latency * 1000:.0f} ms")
            saw = seen(origin)
        require(not saw["used_twice"], "a token was used twice")
        print(f"{database.kind}, {latency * 1000:.0f} ms, {options.rounds} rounds of {options.count}:")
        _print(ours, bare, turn_rate=options.in_turn / turn["seconds"], options=options)
        print(f"  most at once per issuer, all together {saw['most_at_once']}")
    end_session()


def _ours(
    database: Database,
    origin: str,
    family: str,
    count: int,
    options: argparse.Namespace,
    refresh: Callable[..., dict[str, int]],
) -> Cost:
    """Make that many tokens that are due, renew them, and see that all was written for each."""
    from django.utils import timezone

    from tests.chaos.grants import make_grants

    make_grants(origin, names(family, count), now=timezone.now(), issuers=options.issuers)
    before = _written()
    with cost(database) as spent:
        outcome = refresh(now=timezone.now())
    written = [after - one for after, one in zip(_written(), before, strict=True)]
    require(written == [count] * 3, f"{count} due; rows, audit records, events: {written}; {outcome}")
    return spent


def _bare(database: Database, origin: str, families: Sequence[str], options: argparse.Namespace) -> Cost:
    bare = BareRefresher(origin, families, issuers=options.issuers)
    with cost(database) as spent:
        bare.refresh(in_flight=_BARE_IN_FLIGHT)
    require(bare.renewed() == len(families), f"bare: {bare.renewed()} of {len(families)}")
    return spent


def _written() -> tuple[int, int, int]:
    from audit.models import AuditRecord
    from connections.models import TokenSet
    from oauthflow.models import Event

    renewed = TokenSet.objects.filter(generation=2, lease_owner="").count()
    return renewed, AuditRecord.objects.filter(event="token.refreshed").count(), Event.objects.count()


def _print(ours: Sequence[Cost], bare: Sequence[Cost], *, turn_rate: float, options: argparse.Namespace) -> None:
    thousands = options.count / 1000
    for name, rounds in (("ours", ours), ("bare", bare)):
        print(
            f"  {name}: {_middle([one['seconds'] for one in rounds], 2)} s,"
            f" {_middle([options.count / one['seconds'] for one in rounds], 0)} a second; CPU per 1,000"
            f" {_middle([one['cpu'] / thousands for one in rounds], 3)}"
            f" (+ {_middle([one['database'] / thousands for one in rounds], 3)}) s"
        )
    pairs = list(zip(ours, bare, strict=True))
    spent = [[one["cpu"] + one["database"] for one in pair] for pair in pairs]
    print(
        f"  ours ÷ bare: seconds {_middle([one['seconds'] / other['seconds'] for one, other in pairs], 2)},"
        f" CPU with the database {_middle([one / other for one, other in spent], 2)}"
    )
    ratios = [options.count / one["seconds"] / turn_rate for one in ours]
    print(f"  one after the other {turn_rate:.1f}/s, ratio {_middle(ratios, 0)}")


def _middle(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


if __name__ == "__main__":
    main()
