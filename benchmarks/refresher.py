"""What the benchmarks of the refresher share: this process as one of a site's, fresh databases, a strict server."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .database import Database, on_each
from .processes import cpu_seconds, machine_seconds

Measure = Callable[[Database, argparse.Namespace], None]


def run(measure: Measure, parser: argparse.ArgumentParser) -> None:
    """Measure each database that was asked for in a process of its own; exit with 1 where one failed."""
    failed = []

    def apart(database: Database, folder: Path, options: argparse.Namespace) -> None:
        child = os.fork()
        if child == 0:
            os._exit(_in_child(lambda: measure(database, options), database, folder=str(folder)))
        if os.waitpid(child, 0)[1]:
            failed.append(database.kind)

    on_each(apart, parser)
    raise SystemExit(1 if failed else 0)


def _in_child(work: Callable[[], None], database: Database, *, folder: str) -> int:
    code = 1
    try:
        become_worker(database, folder=folder)
        busy, started, own = machine_seconds(), time.perf_counter(), os.times()
        work()
        print(_conditions(database, busy=busy, started=started, own=own))
        code = 0
    except SystemExit as end:
        print(end)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
    return code


def become_worker(database: Database, *, folder: str) -> None:
    """Make this process what a worker is: settings, tables, collector; quiet."""
    os.environ |= {
        "DATABASE_URL": database.url, "DATA_DIR": folder, "DEBUG": "true", "EGRESS_ALLOW": "127.0.0.1",
        "REDIS_URL": "", "DJANGO_SETTINGS_MODULE": "mcp_oauth_site.settings",
    }  # fmt: skip
    import logging

    import django

    django.setup()
    logging.disable(logging.WARNING)
    from django.conf import settings
    from django.core.management import call_command

    from oauthflow.hot_path.collector import collect_rarely

    settings.DEBUG = False
    call_command("migrate", verbosity=0)
    collect_rarely()


def _conditions(database: Database, *, busy: float, started: float, own: Any) -> str:
    """How much of the machine all used, and how slow it was for Python."""
    share = (machine_seconds() - busy) / (time.perf_counter() - started) / (os.cpu_count() or 1)
    return (
        f"{database.kind} conditions: {share:.0%} of {os.cpu_count()} processors busy, load {os.getloadavg()[0]:.1f},"
        f" a Fernet encryption {fernet_seconds() * 1e6:.1f} µs of CPU"
    )


def fernet_seconds() -> float:
    """What a Fernet encryption costs now, in CPU seconds: 6 µs on a quiet machine; others make all Python dearer."""
    from cryptography.fernet import Fernet

    fernet, rounds = Fernet(Fernet.generate_key()), 5000
    before = time.thread_time()
    for _ in range(rounds):
        fernet.encrypt(b"x" * 64)
    return (time.thread_time() - before) / rounds


@contextmanager
def cost(database: Database) -> Iterator[dict[str, float]]:
    """Add up seconds, and CPU seconds of this process and of the database server, of a block."""
    found: dict[str, float] = {}
    own, server, started = time.process_time(), _server(database), time.perf_counter()
    yield found
    found |= {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - own,
        "database": _server(database) - server,
    }


def _server(database: Database) -> float:
    return cpu_seconds(database.server_pid) if database.server_pid else 0.0


def progress(done: int, total: int, *, what: str) -> None:
    """Draw a bar on a terminal; nothing elsewhere."""
    if sys.stderr.isatty():
        filled = 40 * done // max(1, total)
        end = "\n" if done >= total else ""
        print(f"\r{what} [{'#' * filled}{'.' * (40 - filled)}] {done}/{total}", end=end, file=sys.stderr, flush=True)


def require(holds: bool, problem: str) -> None:
    """End the run where an answer is wrong: its figures would mean nothing."""
    if not holds:
        raise SystemExit(f"wrong: {problem}")


def names(prefix: str, count: int) -> list[str]:
    """Return the names of that many token families."""
    return [f"{prefix}{number}" for number in range(count)]
