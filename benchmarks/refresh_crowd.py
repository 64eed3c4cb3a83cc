"""64 programs ask a web process at once for one token that has ended. P17.

    python -m benchmarks.refresh_crowd [--database sqlite] [--database postgresql --administration URL] [--rounds 20]

Each round asks for another connection's token, from a server that takes 50 ms; it has to get one request. Measured is
how long after its answer the last of them has the token. In the same run, in turn: the same through the view (which a
cookie is enough for), and 64 that read the row every 50 ms until somebody else's refresh is in it.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.chaos.serving import seen, strict_server
from tests.product import free_port

from .database import Database, on_each
from .load import Outcome, drive, post
from .refresher import require
from .site import Site, running_site

_CROWD = 64
_LATENCY_SECONDS = 0.05
_POLL_SECONDS = 0.05
_FILL = """
import json
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from connections.api_tokens import issue_api_token
from connections.models import Connection, TokenSet
from tests.chaos.grants import make_grants
now = timezone.now()
user = User.objects.create_user("alice")
made = make_grants("{origin}", [f"{{n}}" for n in range({count})], now=now - timedelta(hours=1))
Connection.objects.update(user=user)
TokenSet.objects.update(refresh_due_at=now + timedelta(days=1))
token = issue_api_token(user, scopes=["tokens:release"], name="benchmark", now=now).token.reveal()
print(json.dumps({{"token": token, "connections": [str(one.pk) for one in made]}}))
"""
Crowd = Callable[[Site, Database, int], float]


def main() -> None:
    """Measure each database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    on_each(_measure, parser)


def _measure(database: Database, folder: Path, options: argparse.Namespace) -> None:
    """Take turns, after one round of each that does not count."""
    rounds: int = options.rounds
    crowds: dict[str, Crowd] = {"the site": _asking, "through the view": _asking_the_view, "polling": _polling}
    late: dict[str, list[float]] = {name: [] for name in crowds}
    with strict_server(free_port(), latency=_LATENCY_SECONDS) as origin:
        fill = _FILL.format(origin=origin, count=len(crowds) * (rounds + 1))
        with running_site(database, folder=folder, fill=fill, EGRESS_ALLOW="127.0.0.1", REDIS_URL="") as site:
            for number in range(len(crowds) * (rounds + 1)):
                name = list(crowds)[number % len(crowds)]
                ended_at = crowds[name](site, database, number)
                saw = seen(origin)
                require(saw["requests"] == number + 1, f"{saw['requests']} requests after {number + 1} rounds")
                late[name].append((ended_at - saw["answered_at"]) * 1000)
    print(f"{database.kind}, P17: {_CROWD} callers, {rounds} rounds, 1 request each; the last has the token after")
    for name, found in late.items():
        counted = found[1:]
        print(f"  {name}: min {min(counted):.0f}, median {statistics.median(counted):.0f}, max {max(counted):.0f} ms")
    print(f"  load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


def _asking(site: Site, database: Database, number: int) -> float:
    return _drive(site, number, callers=_CROWD).ended_at


def _asking_the_view(site: Site, database: Database, number: int) -> float:
    return _drive(site, number, callers=_CROWD, Cookie="a=b").ended_at


def _polling(site: Site, database: Database, number: int) -> float:
    """One asks, and the others look at the row until it is renewed."""
    with ThreadPoolExecutor() as pool, _generation(database, site.filled["connections"][number]) as generation:
        asked = pool.submit(_drive, site, number, callers=1)
        before = [generation() for _ in range(_CROWD)]
        while before != [after - 1 for after in (generation() for _ in range(_CROWD))]:
            time.sleep(_POLL_SECONDS)
        ended_at = time.monotonic()
        asked.result()
    return ended_at


def _drive(site: Site, number: int, *, callers: int, **headers: str) -> Outcome:
    call = post(
        f"http://localhost:{site.port}/api/v1/connections/{site.filled['connections'][number]}/token",
        headers={"Authorization": f"Bearer {site.filled['token']}", **headers},
        expected=f'"at-{number}-1"',
    )
    outcome = drive(site.port, [call], connections=callers, count=callers)
    require(len(outcome.latencies) == callers, f"{len(outcome.bad)} went away empty: {outcome.bad[:2]}")
    return outcome


@contextmanager
def _generation(database: Database, connection_id: str) -> Iterator[Callable[[], int]]:
    """Give a function that reads the row of a connection."""
    question = "SELECT generation FROM connections_tokenset WHERE connection_id = "
    if database.kind == "sqlite":
        with closing(sqlite3.connect(urlsplit(database.url).path)) as file:
            yield lambda: int(file.execute(question + "?", [connection_id.replace("-", "")]).fetchone()[0])
        return
    with psycopg.connect(database.url, autocommit=True) as session:
        yield lambda: int(session.execute(question + "%s", [connection_id], prepare=True).fetchone()[0])


if __name__ == "__main__":
    main()
