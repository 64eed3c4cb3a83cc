"""A PostgreSQL and a Redis of our own: nobody else is disturbed when they are stopped."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import redis

from tests.product import free_port

# Without fsync a crash of the machine loses commits; a crash of the server does not.
_POSTGRESQL_OPTIONS = "-c listen_addresses= -c fsync=off -c max_connections=100"


class PrivatePostgresql:
    """A PostgreSQL server on a socket in a folder, with an empty database; `url` is its address."""

    def __init__(self, folder: Path) -> None:
        self.url = f"postgresql:///site?host={folder}&user=postgres"
        self._folder = folder
        self._programs = _postgresql_programs()
        self._as_postgres: list[str] = []
        if os.geteuid() == 0:
            self._as_postgres = ["runuser", "-u", "postgres", "--"]
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)

    def start(self) -> None:
        """Make the server and start it."""
        self._run("initdb", "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self.start_again()
        with psycopg.connect(f"host={self._folder} user=postgres dbname=postgres", autocommit=True) as server:
            server.execute("CREATE DATABASE site")

    def start_again(self) -> None:
        """Serve what was there when it was stopped."""
        options = f"{_POSTGRESQL_OPTIONS} -c unix_socket_directories={self._folder}"
        self._run("pg_ctl", "-w", "-s", "-l", str(self._folder / "log"), "-o", options, "start")

    def restart(self) -> None:
        """Break off whatever is under way, as a crash would, and recover."""
        self._run("pg_ctl", "-w", "-s", "-m", "immediate", "-l", str(self._folder / "log"), "restart")

    def pause(self) -> None:
        """Accept connections and say nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End the pause."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it at once."""
        self._run("pg_ctl", "-m", "immediate", "-s", "stop")

    def _signal(self, number: signal.Signals) -> None:
        postmaster = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for pid in (postmaster, *map(int, children)):
            os.kill(pid, number)

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [*self._as_postgres, str(self._programs / name), "-D", str(self._folder / "data"), *arguments],
            cwd=self._folder, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip


@contextmanager
def private_postgresql() -> Iterator[PrivatePostgresql]:
    """Start a server and stop it again."""
    # Not below pytest's folder, which is closed to the user that PostgreSQL runs as.
    with TemporaryDirectory(prefix="mcp-oauth-scale-") as folder:
        server = PrivatePostgresql(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _postgresql_programs() -> Path:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return installed[-1] if installed else Path(shutil.which("pg_ctl") or "pg_ctl").parent


class PrivateRedis:
    """A Redis server that can be paused, killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it empty and wait until it answers."""
        program = shutil.which("redis-server")
        assert program, "redis-server is missing; install the package redis-server"
        arguments = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([program, *arguments], cwd=self._folder, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                if self.client().ping():
                    return
            except redis.RedisError:
                time.sleep(0.05)
        raise AssertionError("redis-server does not answer")

    def client(self) -> redis.Redis:
        """A connection of the test's own."""
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def pause(self) -> None:
        """Accept connections and answer nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End the pause."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Lose everything that was in it."""
        self._signal(signal.SIGKILL)
        assert self._process
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End it, whatever state it is in."""
        if self._process is not None:
            self.go_on()
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)
