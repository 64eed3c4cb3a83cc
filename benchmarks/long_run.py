"""Call a tool every second for half an hour, with tokens of 20 seconds, while a worker process is killed every minute.

    .venv/bin/python -m benchmarks.long_run [--minutes 30] [--store sqlite] [--store postgresql]

Starts `manage.py demo` for each store, both at once unless told otherwise; PostgreSQL (with Redis) is one of its own.
Prints one line for each, and ends with 1 where a call failed, a token was used twice, somebody was asked to sign in
again, or a killed worker did not come back.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from audit.progress import with_progress
from tests.long_run import TOKEN_SECONDS, LongRun, long_run
from tests.scale.services import PrivateRedis, private_postgresql

_STORES = ("sqlite", "postgresql")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--store", choices=_STORES, action="append", help="may be repeated; default: both")
    parser.add_argument("--kill-every", type=float, default=60, metavar="SECONDS")
    options = parser.parse_args()
    with ExitStack() as stack:
        stores = options.store or _STORES
        runs = {store: _start(store, stack, kill_every=options.kill_every) for store in stores}
        seconds = round(options.minutes * 60)
        print(f"{seconds} s, tokens of {TOKEN_SECONDS} s, on {' and '.join(runs)}", flush=True)
        for _ in with_progress(_seconds(seconds), total=seconds, label="Calling", stream=sys.stderr):
            for run in runs.values():
                run.tick()
        outcomes = {store: run.outcome() for store, run in runs.items()}
    for store, outcome in outcomes.items():
        print(f"{store}: {'clean' if outcome.is_clean else 'NOT CLEAN'}: {outcome.summary}")
    raise SystemExit(0 if all(outcome.is_clean for outcome in outcomes.values()) else 1)


def _start(store: str, stack: ExitStack, *, kill_every: float) -> LongRun:
    # Two folders: the user that PostgreSQL runs as owns one of them.
    data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"long-run-{store}-")))
    variables = {}
    if store == "postgresql":
        redis = PrivateRedis(data)
        redis.start()
        stack.callback(redis.stop)
        database = stack.enter_context(private_postgresql())
        variables = {"DATABASE_URL": database.url, "REDIS_URL": redis.url}
    return stack.enter_context(long_run(data / "site", kill_every=kill_every, **variables))


def _seconds(total: int) -> Iterator[int]:
    """Yield once a second by the clock, however long the work in between takes."""
    begun = time.monotonic()
    for number in range(total):
        time.sleep(max(0.0, begun + number - time.monotonic()))
        yield number


if __name__ == "__main__":
    main()
