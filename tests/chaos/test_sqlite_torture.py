"""Two processes write to one SQLite file and are killed at any moment: nothing that was committed goes, F25.

`SQLITE_KILLS=500` is the long form.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mcp_oauth_site.keys import new_keys
from tests.faults import fault
from tests.product import ROOT

from .maker import Maker

pytestmark = [pytest.mark.chaos, fault("F25")]

_KILLS = int(os.environ.get("SQLITE_KILLS", "30"))
_LONGEST_SECONDS = 0.1
_PATIENCE_SECONDS = 60
_SEED = """
from django.utils import timezone
from connections.models import Connection, McpServer, TokenSet
from oauthflow.protocol.secret import Secret
server = McpServer.objects.create(slug="notes", name="Notes", url="https://mcp.example/mcp")
connection = Connection.objects.create(server=server, label="shared", status="active")
TokenSet.objects.create(connection=connection, obtained_at=timezone.now(), issuer="https://as.example", generation=0,
                        token_endpoint="https://as.example/token", client_id="c", auth_method="none",
                        access_token_sealed=Secret("access"), refresh_token_sealed=Secret("refresh"))
"""


class Writer(Maker):
    """One of the two; what it told lies in a file of its own."""

    def __init__(self, environment: dict[str, str], told: Path) -> None:
        self._told = told
        super().__init__("tests.chaos.writer", environment)

    def start(self) -> None:
        self._before = len(self.told)
        self.tell(str(self._told))
        self._child = int(self.said())

    def kill(self, *, after: float) -> None:
        """Kill it once it has written something, and a moment later."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while len(self.told) == self._before:
            assert time.monotonic() < deadline, "it writes nothing"
            time.sleep(0.005)
        time.sleep(after)
        os.kill(self._child, signal.SIGKILL)

    @property
    def told(self) -> list[str]:
        return self._told.read_text().splitlines() if self._told.exists() else []


def test_two_processes_that_are_killed_again_and_again_leave_a_sound_file(tmp_path: Path) -> None:
    environment = _environment(tmp_path)
    _manage("migrate", "-v0", environment=environment)
    _manage("shell", "-v0", "-c", _SEED, environment=environment)
    with _writers(environment, tmp_path) as writers:
        for writer in writers:
            writer.start()
        for number in range(_KILLS):
            writer = writers[number % 2]
            writer.kill(after=_LONGEST_SECONDS * number / _KILLS)
            if number < _KILLS - 2:
                writer.start()
        told = [line for writer in writers for line in writer.told]
    assert [line for line in told if line.startswith("failed")] == []
    with closing(sqlite3.connect(tmp_path / "data" / "site.sqlite3")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        recorded = {
            sequence
            for (sequence,) in database.execute(
                "SELECT sequence FROM audit_auditrecord WHERE event = 'token.refreshed'"
            )
        }
        (generation,) = database.execute("SELECT generation FROM connections_tokenset").fetchone()
    assert len(told) == len(set(told)) >= _KILLS
    assert set(map(int, told)) <= recorded
    assert generation == len(recorded)
    _manage("audit_verify", environment=environment)


@contextmanager
def _writers(environment: dict[str, str], folder: Path) -> Iterator[list[Writer]]:
    writers = [Writer(environment, folder / f"told-{number}") for number in range(2)]
    try:
        yield writers
    finally:
        for writer in writers:
            writer.close()


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    variables = {"DJANGO_SETTINGS_MODULE": "mcp_oauth_site.settings", "DATA_DIR": str(folder / "data")}
    return kept | new_keys().as_variables() | variables


def _manage(*arguments: str, environment: dict[str, str]) -> None:
    command = [sys.executable, "manage.py", *arguments]
    finished = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr[-3000:]
