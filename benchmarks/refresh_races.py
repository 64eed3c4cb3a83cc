"""Many at once want the same tokens: workers, and callers on demand, in several processes. P16.

    python -m benchmarks.refresh_races [--database sqlite] [--database postgresql --administration URL]
        [--connections 50] [--rotations 5] [--processes 3] [--callers 8]

In every rotation all tokens end at once; two processes refresh what is due as workers do, the others ask for each
token with so many callers at a time, in an order of their own. The server counts uses of one token, requests for one
connection that overlap, and families that ended.
"""

from __future__ import annotations

import argparse
import os
import random
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tests.product import free_port

from .database import Database
from .refresher import names, progress, require, run

if TYPE_CHECKING:
    from connections.models import Connection

_LATENCY_SECONDS = 0.05


def main() -> None:
    """Measure each database in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--rotations", type=int, default=5)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--callers", type=int, default=8)
    run(_measure, parser)


def _measure(database: Database, options: argparse.Namespace) -> None:
    from django.utils import timezone

    from connections.models import Connection, TokenSet
    from tests.chaos.grants import make_grants, seen, strict_server

    with strict_server(free_port(), latency=_LATENCY_SECONDS) as origin:
        made = make_grants(origin, names("race", options.connections), now=timezone.now(), issuers=5)
        for rotation in range(options.rotations):
            TokenSet.objects.update(expires_at=timezone.now(), refresh_due_at=timezone.now())
            pids = [_forked(_work) for _ in range(2)]
            pids += [_forked(partial(_ask, made, options.callers)) for _ in range(options.processes)]
            require(all(os.waitpid(pid, 0)[1] == 0 for pid in pids), "a process failed")
            renewed = TokenSet.objects.filter(generation=rotation + 2).count()
            require(renewed == len(made), f"{renewed} of {len(made)} renewed in rotation {rotation}")
            progress(rotation + 1, options.rotations, what="rotations")
        saw = seen(origin)
        active = Connection.objects.filter(status="active").count()
    print(
        f"{database.kind}, P16: {len(made)} connections, {options.rotations} rotations, 2 workers and"
        f" {options.processes} processes of {options.callers} callers: {saw['requests']} requests;"
        f" overlapping for one connection (parallel_same) {saw['parallel_same']}, tokens used twice (reuse)"
        f" {saw['used_twice']}, families that ended (families_dead) {len(saw['dead'])}; {active} active"
    )


def _forked(work: Callable[[], None]) -> int:
    """Run this in a process of its own, which ends with 1 where it raises."""
    from django.db import connections

    from oauthflow.flows.refresh.owners import end_session

    for one in connections.all():
        one.close()
        if close_pool := getattr(one, "close_pool", None):  # a child must not use its parent's connections
            close_pool()
    child = os.fork()
    if child == 0:
        try:
            work()
            end_session()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def _work() -> None:
    """Look again and again, as beat has it looked, until everything is renewed."""
    from django.utils import timezone

    from connections.models import TokenSet
    from oauthflow.flows.refresh_due import refresh_due

    while TokenSet.objects.filter(refresh_due_at__lte=timezone.now()).exists():
        refresh_due(now=timezone.now())


def _ask(made: Sequence[Connection], callers: int) -> None:
    from tests.fakes.crowd import all_at_once

    for one in random.sample(made, len(made)):
        for outcome in all_at_once(callers, partial(_token_of, one)):
            if isinstance(outcome, Exception):
                raise outcome


def _token_of(one: Connection) -> None:
    """Ask for a token as every face of the site does."""
    from django.utils import timezone

    from connections.models import Connection
    from oauthflow.flows.access_token import usable_access_token

    usable_access_token(Connection.objects.get(pk=one.pk), now=timezone.now())


if __name__ == "__main__":
    main()
