"""Start programs, and what they cost: CPU time and memory from /proc (Linux)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """Return a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (fields := _stat(int(name))):
            children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def cpu_seconds(root: int) -> float:
    """Return the CPU time of a process tree: exact for those that live, threads that ended included.

    Children of the root that have ended count in ticks of 10 ms: a database server starts one for each connection.
    """
    fields = _stat(root)
    ended = (int(fields[13]) + int(fields[14])) / _TICKS_PER_SECOND if fields else 0.0
    return ended + sum(_process_clock(pid) for pid in tree(root))


def memory_mib(root: int) -> float:
    """Return the proportional set size of a process tree: memory that is shared counts once."""
    total = 0.0
    for pid in tree(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return total


def machine_seconds() -> float:
    """Return the CPU time that all processors have spent on anything."""
    with open("/proc/stat") as lines:
        values = [int(value) for value in lines.readline().split()[1:]]
    return (sum(values[:3]) + sum(values[5:8])) / _TICKS_PER_SECOND


@contextmanager
def running(
    command: Sequence[str], *, environment: Mapping[str, str], log: Path, ready: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, wait until `ready` answers with 200, and stop it at the end."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command), cwd=ROOT, env=dict(environment), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        if ready:
            wait_for(ready, process=process, log=log)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(url: str, *, process: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> None:
    """Wait until something answers there with 200."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"it ended: {log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise SystemExit(f"nothing answers at {url}: {log.read_text()[-3000:]}")


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _process_clock(pid: int) -> float:
    """Read the kernel's CPU clock of another process: what `clock_getcpuclockid` gives in C."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0
