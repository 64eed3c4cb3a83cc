"""Refresh 10,000 due tokens of 100 issuers that answer after 50 ms, and compare with one after the other. P14, P15.

    python -m benchmarks.refresh_batch [--database sqlite] [--database postgresql --administration URL]
        [--count 10000] [--issuers 100] [--latency 0.05] [--in-turn 100]

One process does all the work, as a worker does it: leases, requests, spool, rows, audit records, events. The server is
strict: it rotates, and a second use of a token would end its family. CPU is of this process and, in brackets, of the
database server. The same run renews some tokens one after the other, for the ratio.
"""

from __future__ import annotations

import argparse

from tests.product import free_port

from .database import Database
from .refresher import cost, names, require, run


def main() -> None:
    """Measure each database in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--issuers", type=int, default=100)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--in-turn", type=int, default=100)
    run(_measure, parser)


def _measure(database: Database, options: argparse.Namespace) -> None:
    from django.utils import timezone

    from audit.models import AuditRecord
    from connections.models import TokenSet
    from oauthflow.flows.refresh.owners import end_session
    from oauthflow.flows.refresh_due import refresh_due, refresh_due_in_turn
    from oauthflow.models import Event
    from tests.chaos.grants import make_grants, seen, strict_server

    with strict_server(free_port(), latency=options.latency) as origin:
        make_grants(origin, names("t", options.in_turn), now=timezone.now(), issuers=options.issuers)
        with cost(database) as turn:
            in_turn = refresh_due_in_turn(now=timezone.now())
        turn_rate = in_turn["refreshed"] / turn["seconds"]
        make_grants(origin, names("b", options.count), now=timezone.now(), issuers=options.issuers)
        with cost(database) as spent:
            outcome = refresh_due(now=timezone.now())
        saw = seen(origin)
    end_session()
    rate, thousands = outcome["refreshed"] / spent["seconds"], options.count / 1000
    renewed = TokenSet.objects.filter(generation=2, lease_owner="").count()
    told = (AuditRecord.objects.filter(event="token.refreshed").count(), Event.objects.count())
    everybody = options.count + options.in_turn
    require(
        (renewed, *told) == (everybody,) * 3,
        f"{everybody} due; rows renewed {renewed}, audit records and events {told}, {outcome}",
    )
    print(
        f"{database.kind}: {outcome['refreshed']} refreshed, {outcome['failed']} failed in {spent['seconds']:.2f} s,"
        f" {rate:,.0f}/s; CPU {spent['cpu'] / thousands:.3f} (+ {spent['database'] / thousands:.3f}) s per 1,000;"
        f" one after the other {turn_rate:.1f}/s, ratio {rate / turn_rate:.0f};"
        f" tokens used twice {saw['used_twice']}, most at once per issuer {saw['most_at_once']}"
    )


if __name__ == "__main__":
    main()
