"""A folder per `manage.py up` in which its processes keep their metrics, so that each of them can answer for all."""

from __future__ import annotations

import fcntl
import os
import shutil
from itertools import count
from pathlib import Path
from typing import Final

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_held: list[int] = []


def claim_folder(parent: Path, *, role: str) -> Path:
    """Return an empty folder that no other living process has; the kernel gives it back when this process ends.

    Processes of one machine may share a data folder, and so may containers, whose process ids mean nothing to each
    other: a lock tells what is in use.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in count(1):
        folder = parent / f"{role}-{number}"
        descriptor = os.open(f"{folder}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        _held.append(descriptor)
        break
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder
