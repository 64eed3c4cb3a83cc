"""Refreshes per second of one worker where the server answers after 0, 50 and 500 ms, beside the bare limit.

    python -m benchmarks.refresh_latency [--database sqlite] [--database postgresql --administration URL]
        [--latency 0 --latency 0.05 --latency 0.5] [--count 4000] [--issuers 100] [--rounds 3]

The bare limit is the same requests, 20 at a time to each issuer and 600 in all, sent by nothing but aiohttp: no store,
no leases, nothing judged, nothing kept. Both run in alternating rounds against the same server; ratios are taken in
each round, and their median is printed with the least and the greatest.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import uvloop

from tests.product import free_port

from .database import Database
from .refresher import cost, names, progress, require, run


@dataclass(frozen=True, slots=True)
class _Round:
    ours: float
    bare: float
    our_cpu: float
    bare_cpu: float
    database: float


def main() -> None:
    """Measure each database in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, action="append")
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--issuers", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    run(_measure, parser)


def _measure(database: Database, options: argparse.Namespace) -> None:
    from oauthflow.flows.refresh.owners import end_session
    from tests.chaos.grants import seen, strict_server

    for latency in options.latency or [0.0, 0.05, 0.5]:
        with strict_server(free_port(), latency=latency) as origin:
            rounds = []
            for number in range(options.rounds):
                rounds.append(_round(database, origin, options, number=number, latency=latency))
                progress(number + 1, options.rounds, what=f"{latency * 1000:.0f} ms")
            require(not seen(origin)["used_twice"], "a token was used twice")
        _print(database, rounds, latency=latency, count=options.count)
    end_session()


def _round(database: Database, origin: str, options: argparse.Namespace, *, number: int, latency: float) -> _Round:
    from django.utils import timezone

    from oauthflow.flows.refresh_due import refresh_due
    from tests.chaos.grants import make_grants

    make_grants(
        origin, names(f"r{latency * 1000:.0f}x{number}x", options.count), now=timezone.now(), issuers=options.issuers
    )
    with cost(database) as ours:
        outcome = refresh_due(now=timezone.now())
    require(outcome["refreshed"] == options.count, f"{outcome} of {options.count}")
    with cost(database) as bare, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_bare(origin, names(f"b{latency * 1000:.0f}x{number}x", options.count), issuers=options.issuers))
    count, thousands = options.count, options.count / 1000
    return _Round(
        count / ours["seconds"],
        count / bare["seconds"],
        ours["cpu"] / thousands,
        bare["cpu"] / thousands,
        ours["database"] / thousands,
    )


async def _bare(origin: str, families: Sequence[str], *, issuers: int) -> None:
    every, each = asyncio.Semaphore(600), [asyncio.Semaphore(20) for _ in range(issuers)]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def send(number: int, family: str) -> None:
            form = {"grant_type": "refresh_token", "refresh_token": f"rt-{family}-0", "client_id": "us"}
            async with (
                each[number % issuers],
                every,
                session.post(f"{origin}/{number % issuers}/token", data=form) as answer,
            ):
                document = await answer.json()
                require(bool(document.get("access_token")), f"the bare request was answered with {document}")

        await asyncio.gather(*(send(number, family) for number, family in enumerate(families)))


def _print(database: Database, rounds: Sequence[_Round], *, latency: float, count: int) -> None:
    rates, cpus = [one.ours / one.bare for one in rounds], [one.our_cpu / one.bare_cpu for one in rounds]
    print(
        f"{database.kind}, {latency * 1000:.0f} ms: {_middle([one.ours for one in rounds], 0)}/s,"
        f" bare {_middle([one.bare for one in rounds], 0)}/s, ratio {_middle(rates, 2)};"
        f" CPU {_middle([one.our_cpu for one in rounds], 3)} (+ {_middle([one.database for one in rounds], 3)})"
        f" s per 1,000, bare {_middle([one.bare_cpu for one in rounds], 3)}, ratio {_middle(cpus, 2)}"
        f" ({len(rounds)} rounds of {count}, {time.strftime('%Y-%m-%d')})"
    )


def _middle(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


if __name__ == "__main__":
    main()
