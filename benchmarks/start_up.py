"""Measure how long `manage.py up` takes until the site is ready, and how much memory its processes hold.

    python -m benchmarks.start_up [--rounds 3] [--database sqlite|postgresql --administration URL]

The first start of a round makes the database, the second finds it; ready is when `/readyz` answers with 200. Memory is
the proportional set size a few seconds later, and again after a thousand pages have been served.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.product import free_port

from .database import fresh_database
from .processes import cpu_seconds, memory_mib, running, tree
from .site import site_environment

_SETTLE_SECONDS = 5.0
_PAGES = 1000


@dataclass(frozen=True, slots=True)
class Start:
    """One start; memory in MiB by process, those that run the longest first."""

    seconds: float
    cpu: float
    idle: dict[str, float]
    used: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--administration", default="")
    options = parser.parse_args()
    first, second = [], []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
            folder, port = Path(name), free_port()
            with fresh_database(options.database, folder=folder, administration=options.administration) as database:
                environment = site_environment(folder, port=port, DATABASE_URL=database.url)
                first.append(_start(folder, port, environment))
                second.append(_start(folder, port, environment))
    for name, starts in (("first start", first), ("later start", second)):
        seconds, cpu = _spread([each.seconds for each in starts]), _spread([each.cpu for each in starts])
        print(f"{name}: ready after {seconds} s, CPU {cpu} s")
    for process in second[0].idle:
        print(f"memory of {process}: {_spread([each.idle.get(process, 0.0) for each in second])} MiB")
    print(f"memory of all: {_spread([sum(each.idle.values()) for each in second])} MiB; "
          f"after {_PAGES} pages {_spread([each.used for each in second])} MiB")  # fmt: skip


def _start(folder: Path, port: int, environment: dict[str, str]) -> Start:
    command = [sys.executable, "manage.py", "up", "--port", str(port)]
    ready = f"http://localhost:{port}/readyz"
    begun = time.monotonic()
    with running(command, environment=environment, log=folder / "up.log", ready=ready) as process:
        seconds, cpu = time.monotonic() - begun, cpu_seconds(process.pid)
        time.sleep(_SETTLE_SECONDS)
        idle: dict[str, float] = {}
        for pid in tree(process.pid):
            name = _name(pid)
            idle[name] = idle.get(name, 0.0) + memory_mib_of_one(pid)
        for _ in range(_PAGES):
            urllib.request.urlopen(f"http://localhost:{port}/accounts/login/").read()
        return Start(seconds, cpu, idle, memory_mib(process.pid))


def memory_mib_of_one(pid: int) -> float:
    """Return the memory of one process without its children."""
    return memory_mib(pid) - sum(memory_mib(child) for child in tree(pid)[1:] if _parent(child) == pid)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _name(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return "gone"
    known = {"up": "up (supervisor)", "mcp_oauth_site.serve": "web", "worker": "worker and beat", "beat": "beat"}
    return next((name for word, name in known.items() if word in words), "helper")


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


if __name__ == "__main__":
    main()
