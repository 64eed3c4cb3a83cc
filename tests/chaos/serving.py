"""The strict server in a process of its own, and what it saw; for tests and for programs without Django."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from sys import executable
from time import sleep
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


@contextmanager
def strict_server(port: int, *, latency: float = 0.0, grace: float = 0.0) -> Iterator[str]:
    """Run the server in a process of its own; yields its origin."""
    command = [executable, "-m", "tests.chaos.strict_server", str(port)]
    process = Popen([*command, "--latency", str(latency), "--grace", str(grace)], cwd=ROOT)
    origin = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                seen(origin)
                break
            except OSError:
                sleep(0.05)
        yield origin
    finally:
        process.kill()
        process.wait()


def seen(origin: str) -> dict[str, Any]:
    """Ask the server what it saw."""
    with urllib.request.urlopen(origin, timeout=5) as answer:
        document: dict[str, Any] = json.load(answer)
    return document
