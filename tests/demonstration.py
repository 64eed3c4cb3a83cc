"""`manage.py demo` as people run it, on free ports and with a data folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.product import ROOT, free_port, port_is_free, wait_for

# How long a start may take on a machine that does much else.
_PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class Demonstration:
    """The running demonstration. `upstream` is its authorization server."""

    url: str
    upstream: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    log: Path
    data: Path

    def manage(self, *arguments: str) -> str:
        """Run a management command beside it and return what it says."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip()

    def api_token(self, user: str, *scopes: str) -> str:
        """A fresh personal API token."""
        named = [word for scope in scopes for word in ("--scope", scope)]
        return self.manage("create_api_token", user, *named)


@contextmanager
def running_demonstration(folder: Path, *, token_seconds: int, **variables: str) -> Iterator[Demonstration]:
    """Start it, wait until site and upstream answer, and stop it again."""
    port, upstream = free_port(), _three_free_ports()
    log, data = folder / "demo.log", folder / "data"
    environment = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")},
        "DATA_DIR": str(data), "DEBUG": "true", "EGRESS_ALLOW": "localhost,127.0.0.1", "PYTHONUNBUFFERED": "1",
        "PUBLIC_URL": f"http://localhost:{port}", **variables,
    }  # fmt: skip
    ports = ["--port", str(port), "--upstream-port", str(upstream)]
    command = [sys.executable, "manage.py", "demo", *ports, "--access-token-seconds", str(token_seconds)]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        wait_for(f"http://localhost:{port}/healthz", process=process, log=log, seconds=_PATIENCE_SECONDS)
        ready = f"http://127.0.0.1:{upstream}/.well-known/oauth-authorization-server"
        wait_for(ready, process=process, log=log, seconds=_PATIENCE_SECONDS)
        _wait_until_listening(upstream + 1, process, log)
        yield Demonstration(f"http://localhost:{port}", f"http://127.0.0.1:{upstream}", environment, process, log, data)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def _three_free_ports() -> int:
    """The first of three neighbours that nobody listens on."""
    for _ in range(100):
        first = free_port()
        if all(port_is_free(port) for port in (first + 1, first + 2)):
            return first
    raise AssertionError("no three free ports beside one another")


def _wait_until_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            requests.post(f"http://127.0.0.1:{port}/mcp", timeout=5)
            return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())
