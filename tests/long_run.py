"""A demonstration that is called every second while its workers are killed: for a test, and for hours."""

from __future__ import annotations

import os
import secrets
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from benchmarks.processes import memory_mib, tree
from tests.demonstration import Demonstration, running_demonstration
from tests.end_to_end.programs import Program
from tests.end_to_end.upstream import Upstream

TOKEN_SECONDS = 20
_CALLS_AT_ONCE = 32
_PATIENCE_SECONDS = 120
_SAID_TWICE = "was used twice"
_FIGURES = """
from collections import Counter
from audit.models import AuditRecord
from connections.models import Connection
counted = Counter(AuditRecord.objects.values_list("event", flat=True))
print(counted["token.refreshed"], counted["token.refresh_failed"], counted["reauthorization.required"])
print(*Connection.objects.filter(server__slug="notes").values_list("status", flat=True))
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of a run.

    Attributes:
        failed: What went wrong instead of an answer, by kind, with how often.
        refreshes: As the authorization server counts them: refresh tokens that were redeemed.
        used_twice: Codes and refresh tokens that the authorization server saw a second time.
        asked_again: Times that a person was asked to sign in again.
        kills: Worker processes that were killed.
        missing: Worker processes that were not there again at the end.
        memory: MiB of all processes of the product, after the first and after the last minute.
    """

    calls: int
    failed: Counter[str]
    slowest: float
    refreshes: int
    failed_refreshes: int
    used_twice: int
    grants: int
    asked_again: int
    status: str
    kills: int
    missing: int
    memory: tuple[float, float]

    @property
    def is_clean(self) -> bool:
        """Nothing was lost, nobody was asked, and what should happen did."""
        wrong = sum(self.failed.values()) + self.used_twice + self.asked_again + self.missing
        return (
            not wrong
            and self.status == "active"
            and self.grants == 1
            and min(self.calls, self.refreshes, self.kills) > 0
        )

    @property
    def summary(self) -> str:
        """One line for people."""
        failed = "".join(f" ({count} x {what})" for what, count in self.failed.items())
        return (
            f"{self.calls} calls, {sum(self.failed.values())} failed{failed}, slowest {self.slowest:.1f} s;"
            f" {self.refreshes} refreshes, {self.failed_refreshes} failed, {self.used_twice} tokens used twice;"
            f" {self.asked_again} times asked to sign in again, connection {self.status};"
            f" {self.kills} workers killed, {self.missing} not back;"
            f" memory {self.memory[0]:.0f}, at the end {self.memory[1]:.0f} MiB"
        )


@dataclass
class LongRun:
    """One demonstration under a client. Call `tick` every second."""

    demonstration: Demonstration
    program: Program
    connection: str
    kill_every: float
    workers: int
    _pool: ThreadPoolExecutor
    _calls: list[Future[tuple[str, float]]] = field(default_factory=list)
    _killed_at: float = 0.0
    _kills: int = 0
    _memory: list[float] = field(default_factory=list)

    def tick(self) -> None:
        """Call the tool, and kill a worker where it is time."""
        self._killed_at = self._killed_at or time.monotonic()
        self._calls.append(self._pool.submit(self._call))
        if len(self._calls) % 60 == 1:
            self._memory.append(memory_mib(self.demonstration.process.pid))
        if time.monotonic() - self._killed_at >= self.kill_every and not self._missing_workers():
            self._killed_at = time.monotonic()
            os.kill(secrets.choice(_worker_pids(self.demonstration)), signal.SIGKILL)
            self._kills += 1

    def outcome(self) -> Outcome:
        """Wait for the last answers, and count."""
        answers = [call.result() for call in self._calls]
        missing = self._missing_workers(patience=_PATIENCE_SECONDS)
        refreshed, failed, asked, *statuses = self.demonstration.manage("shell", "-v0", "-c", _FIGURES).split()
        spent, grants = self._upstream_figures()
        return Outcome(
            calls=len(answers),
            failed=Counter(what for what, _ in answers if what),
            slowest=max(seconds for _, seconds in answers),
            refreshes=spent,
            failed_refreshes=int(failed),
            used_twice=self.demonstration.log.read_text().count(_SAID_TWICE),
            grants=grants,
            asked_again=int(asked),
            status=" ".join(statuses),
            kills=self._kills,
            missing=missing,
            memory=(self._memory[min(1, len(self._memory) - 1)], memory_mib(self.demonstration.process.pid)),
        )

    def _call(self) -> tuple[str, float]:
        begun = time.monotonic()
        try:
            answer = self.program.call(self.connection, "get_user_profile")
        except requests.RequestException as error:
            return type(error).__name__, time.monotonic() - begun
        is_good = answer.status_code == 200 and not answer.json().get("isError")
        return "" if is_good else f"{answer.status_code} {answer.text[:200]}", time.monotonic() - begun

    def _missing_workers(self, *, patience: float = 0) -> int:
        """Return how many of the worker's processes are not there, at once or after they had time to come."""
        deadline = time.monotonic() + patience
        while (missing := self.workers - len(_worker_pids(self.demonstration))) > 0 and time.monotonic() < deadline:
            time.sleep(0.1)
        return max(0, missing)

    def _upstream_figures(self) -> tuple[int, int]:
        """Return how many refresh tokens were redeemed, and how many grants stand: reuse deletes the grant."""
        file = self.demonstration.data / "demo" / "authorization-server.sqlite3"
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            (spent,) = database.execute("SELECT count(*) FROM tokens WHERE kind = 'refresh' AND spent").fetchone()
            (grants,) = database.execute("SELECT count(*) FROM grants").fetchone()
        return int(spent), int(grants)


@contextmanager
def long_run(folder: Path, *, kill_every: float, **variables: str) -> Iterator[LongRun]:
    """Start the demonstration and connect alice.

    Args:
        folder: For data and log.
        kill_every: Seconds from the start, or the last kill, to the next.
        variables: Further settings: DATABASE_URL and REDIS_URL.
    """
    folder.mkdir(exist_ok=True)
    with (
        running_demonstration(folder, token_seconds=TOKEN_SECONDS, **variables) as demonstration,
        ThreadPoolExecutor(_CALLS_AT_ONCE) as pool,
    ):
        token = demonstration.api_token("alice", "connections:read", "connections:write", "tools:call")
        program = Program(demonstration.url, token)
        connection = program.connection("notes")
        upstream = Upstream(demonstration.upstream, "", "", f"{demonstration.url}/api/v1/oauth/callback")
        program.connect(connection, upstream=upstream)
        expected = 5 if variables.get("REDIS_URL") else 1
        yield LongRun(demonstration, program, connection, kill_every, expected, pool)


def _worker_pids(demonstration: Demonstration) -> Sequence[int]:
    """The worker and its own processes."""
    found = []
    for pid in tree(demonstration.process.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"celery" in words and b"worker" in words:
            found.append(pid)
    return found
