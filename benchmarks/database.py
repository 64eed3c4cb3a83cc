"""A fresh database for each target: a file, or one that is made on a PostgreSQL server and dropped again."""

from __future__ import annotations

import argparse
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg


@dataclass(frozen=True, slots=True)
class Database:
    """`server_pid` is the PostgreSQL server's process, 0 where there is none."""

    kind: str
    url: str
    server_pid: int = 0


def on_each(measure: Callable[[Database, Path, argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Measure on each database that the command line asks for: a fresh one, with a folder of its own."""
    parser.add_argument("--database", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument(
        "--administration", default="", help="address of the PostgreSQL server, of who may create databases"
    )
    options = parser.parse_args()
    for kind in options.database or ["sqlite"]:
        with (
            tempfile.TemporaryDirectory() as folder,
            fresh_database(kind, folder=Path(folder), administration=options.administration) as database,
        ):
            measure(database, Path(folder), options)


@contextmanager
def fresh_database(kind: str, *, folder: Path, administration: str) -> Iterator[Database]:
    """Make an empty database and remove it at the end.

    Args:
        kind: `sqlite` or `postgresql`.
        folder: For the file.
        administration: Address of a database on the PostgreSQL server, of a user who may create databases.
    """
    name = f"benchmark_{secrets.token_hex(6)}"
    if kind == "sqlite":
        yield Database(kind, f"sqlite:///{folder / name}.sqlite3")
        return
    with psycopg.connect(administration, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            server = urlsplit(administration)
            url = f"{server.scheme}://{server.netloc}/{name}?{server.query}"
            yield Database(kind, url, _server_pid(connection))
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _server_pid(connection: psycopg.Connection[tuple[int]]) -> int:
    """The parent of the process that serves this connection, if it runs here."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    stat = Path(f"/proc/{row[0] if row else 0}/stat")
    return int(stat.read_text().rpartition(")")[2].split()[1]) if stat.exists() else 0
