"""The end of the chain, noted outside the database every 100 records or 60 seconds. K07.

Whoever can write to the database can cut off the newest records and set the head back; the chain that is left holds. So
number and code of the last record go to a file that only grows, and into the log, which belongs on another machine.
`audit_verify` compares. A thread writes, because the disk would hold up whoever appends; while it waits, newer ends
replace older ones.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from .models import AuditHead

RECORDS: Final = 100
SECONDS: Final = 60.0
_LOGGED_DIGITS: Final = 32
_LINE: Final = re.compile(r"audit head (\d{1,19}) ([0-9a-f]{32,64})\b")
_LAST_LINE_BYTES: Final = 200

_log = structlog.get_logger(__name__)

Anchors = Mapping[int, frozenset[str]]
"""The codes, or the first 32 digits of them, that were noted for a record."""


class _Writer:
    """Writes the newest end that it was given, one at a time, in a thread of its own."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._newest: tuple[int, str] | None = None
        self.given_at = time.monotonic()

    def write(self, sequence: int, mac: str) -> None:
        with self._lock:
            self.given_at = time.monotonic()
            is_under_way, self._newest = self._newest is not None, (sequence, mac)
            if is_under_way:
                return
            self._threads = self._threads or ThreadPoolExecutor(1, thread_name_prefix="audit-anchor")
        try:
            self._threads.submit(self._write_newest)
        except RuntimeError:  # the process is ending
            self._write_newest()

    def _write_newest(self) -> None:
        with self._lock:
            newest, self._newest = self._newest, None
        if newest is not None:
            note_head(*newest)


_writer = _Writer()


def _begin_anew() -> None:
    global _writer
    _writer = _Writer()  # a forked process has no thread


os.register_at_fork(after_in_child=_begin_anew)


def anchor_after_commit(*, first: int, last: int, mac: str) -> None:
    """Note the end of the chain once the current transaction is committed, where it is time to.

    Args:
        first: Number of the first record that this transaction appends.
        last: Number of the last one.
        mac: Code of the last one.
    """
    is_round = last // RECORDS > (first - 1) // RECORDS
    if head_file() and (is_round or time.monotonic() - _writer.given_at >= SECONDS):
        transaction.on_commit(partial(_writer.write, last, mac), robust=True)


def anchor_head() -> bool:
    """Note the end of the chain as it is now, unless it was the last to be noted here; say whether it was."""
    path, head = head_file(), AuditHead.objects.filter(pk=1).first()
    if path is None or head is None or not head.sequence or _last_noted(path) == head.sequence:
        return False
    note_head(head.sequence, head.mac)
    return True


def note_head(sequence: int, mac: str) -> None:
    """Append one line to the file, synchronously on disk, and one to the log; a file that fails disturbs nobody."""
    _log.info(f"audit head {sequence} {mac[:_LOGGED_DIGITS]}")
    path = head_file()
    try:
        if path is not None:
            _append(path, f"{timezone.now().isoformat(timespec='seconds')} audit head {sequence} {mac}\n")
    except OSError:
        _log.warning("the end of the audit chain could not be noted outside the database", exc_info=True)


def head_file() -> Path | None:
    """Return where ends are noted."""
    path: Path | None = settings.AUDIT_HEAD_FILE
    return path


def read_anchors(paths: Iterable[Path]) -> Anchors:
    """Return all ends that stand in these files, which may be logs with other lines among them.

    Raises:
        OSError: A file cannot be read.
    """
    found: dict[int, frozenset[str]] = {}
    for path in paths:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                for sequence, mac in _LINE.findall(line):
                    found[int(sequence)] = found.get(int(sequence), frozenset()) | {mac}
    return found


def our_anchors() -> Anchors:
    """Return the ends that this host noted."""
    path = head_file()
    return read_anchors([path]) if path is not None and path.exists() else {}


def _append(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, f"\n{line}".encode() if is_torn else line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _last_noted(path: Path) -> int:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LAST_LINE_BYTES))
            noted = _LINE.findall(file.read().decode(errors="replace"))
    except OSError:
        return 0
    return int(noted[-1][0]) if noted else 0
