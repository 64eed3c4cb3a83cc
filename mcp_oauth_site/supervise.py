"""Keeps a few child processes running: starts them, restarts what crashes, stops them all together."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final

import structlog

_log = structlog.get_logger(__name__)
_TICK_SECONDS: Final = 0.2
_SILENT_SECONDS: Final = 3.0
_LONGEST_PAUSE_SECONDS: Final = 30.0
_STABLE_SECONDS: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1


@dataclass(slots=True)
class Child:
    """One process that must run.

    Attributes:
        variables: Environment variables on top of ours.
        stop_seconds: How long it may take to end when it is asked to.
    """

    name: str
    arguments: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: float = 10.0
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    crashes: int = 0
    start_after: float = 0.0

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches the supervisor alone."""
        self.process = subprocess.Popen(
            list(self.arguments),
            env={**os.environ, **self.variables},
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self.started_at = time.monotonic()

    def running(self) -> bool:
        """Say whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def note_crash(self) -> None:
        """Plan the next start: at once the first time, then after 1, 2, 4 … 30 seconds."""
        ended, self.process = self.process, None
        now = time.monotonic()
        self.crashes = 1 if now - self.started_at > _STABLE_SECONDS else self.crashes + 1
        pause = 0.0 if self.crashes == 1 else min(2.0 ** (self.crashes - 2), _LONGEST_PAUSE_SECONDS)
        self.start_after = now + pause
        exit_code = ended.returncode if ended is not None else None
        _log.warning("process ended", process=self.name, exit_code=exit_code, seconds=pause)

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and its own children."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                return


class Supervisor:
    """Runs children until it is told to stop."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = list(children)
        self._stopping = False

    def all_running(self) -> bool:
        """Say whether every child runs at the moment."""
        return all(child.running() for child in self._children)

    def run(self, *, on_tick: Callable[[], None] = lambda: None) -> None:
        """Block until SIGINT or SIGTERM, then stop everything.

        Args:
            on_tick: Called about five times a second.
        """
        previous = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while not self._stopping:
                self._start_what_is_due()
                on_tick()
                time.sleep(_TICK_SECONDS)
        finally:
            self.stop()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Ask all children to end, and kill those that do not in their time."""
        for child in self._children:
            if child.process is not None:
                child.process.send_signal(signal.SIGTERM)
        began, is_told = time.monotonic(), False
        while late := [child for child in self._children if child.running()]:
            passed = time.monotonic() - began
            if passed > _SILENT_SECONDS and not is_told:
                _log.info("waiting for the answers under way", name=", ".join(child.name for child in late))
                is_told = True
            for child in late:
                if passed > child.stop_seconds:
                    child.signal_group(signal.SIGKILL)
            time.sleep(0.05)
        for child in self._children:
            # Also where the child itself has ended: its own children may not have.
            child.signal_group(signal.SIGKILL)
            if child.process is not None:
                child.process.wait()

    def _start_what_is_due(self) -> None:
        for child in self._children:
            if child.process is not None and not child.running():
                child.note_crash()
            if child.process is None and time.monotonic() >= child.start_after:
                child.start()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True


def accepts_connections(host: str, port: int) -> bool:
    """Say whether a server listens there."""

    async def connect() -> None:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout=1)
        writer.close()

    return _succeeds(connect)


def port_is_free(host: str, port: int) -> bool:
    """Say whether we could listen there."""

    async def listen() -> None:
        server = await asyncio.start_server(lambda reader, writer: None, host, port)
        server.close()
        await server.wait_closed()

    return _succeeds(listen)


def _succeeds(attempt: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    try:
        asyncio.run(attempt())
    except (OSError, TimeoutError):
        return False
    return True


def die_with_parent() -> None:
    """Have the kernel end this process when its parent is killed without a chance to stop it; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
