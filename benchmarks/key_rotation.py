"""Rotate the keys of a site with many grants, killing the rotation three times while two processes read.

    .venv/bin/python -m benchmarks.key_rotation [--rows 100000] [--postgresql URL]

Prints one line for SQLite and, where the address of a PostgreSQL server is given, one for that.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.rotated_site import Outcome, rotated_site

_KILLS = (0.2, 0.45, 0.7)
_MOST_SECONDS = 600


def main() -> None:
    """Run and print; exit with 1 where a read failed, a row was left, or it took more than ten minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--postgresql", metavar="URL", help="of a user who may create databases")
    options = parser.parse_args()
    targets = {"sqlite": "", **({"postgresql": options.postgresql} if options.postgresql else {})}
    passed = [_measure(kind, administration=url, rows=options.rows) for kind, url in targets.items()]
    raise SystemExit(0 if all(passed) else 1)


def _measure(kind: str, *, administration: str, rows: int) -> bool:
    with (
        tempfile.TemporaryDirectory() as folder,
        rotated_site(folder=Path(folder), administration=administration) as site,
    ):
        begun = time.monotonic()
        site.fill(rows)
        print(f"{kind}: {rows} rows, {2 * rows} sealed values, filled in {time.monotonic() - begun:.0f} s", flush=True)
        found = site.rotate_under_kills(rows=rows, kills_at=_KILLS, pause=0.002)
        begun = time.monotonic()
        is_whole = not site.run("manage.py", "rotate_encryption_keys", "--verify", keys=[site.new]).returncode
        verified = time.monotonic() - begun
        begun = time.monotonic()
        starts = not site.start([site.new])
        started = time.monotonic() - begun
    print(_line(kind, found), f"verify {verified:.0f} s; start without the old key {started:.1f} s", sep="; ")
    print(found.summary)
    return (
        is_whole and starts and not found.failed_reads and found.kills == len(_KILLS) and found.seconds < _MOST_SECONDS
    )


def _line(kind: str, found: Outcome) -> str:
    return (
        f"{kind}: rotated in {found.seconds:.0f} s with {found.kills} kills; {found.failed_reads} of {found.reads}"
        f" reads failed"
    )


if __name__ == "__main__":
    main()
