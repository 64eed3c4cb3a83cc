"""Who holds leases: one lock for each process, which the kernel or the database drops when the process dies.

A lease names its owner. While the owner's lock is taken the owner lives, however slow or frozen it is, and the lease is
waited for. When the lock is free the owner is dead, and whoever comes next takes over within seconds. R1.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import select
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

CONFIRM_SECONDS: Final = 2.0
"""How long a lock in PostgreSQL must be free: a live owner that lost its session takes it again at once."""
_RECONNECT_SECONDS: Final = 0.2


class OwnerLock(Protocol):
    """The lock of this process. `name` is 16 hex digits."""

    name: str

    def release(self) -> None:
        """Give it up, as death would."""


def new_owner(*, unknown_outcomes: int = 0) -> str:
    """Return the name under which one attempt takes its lease; the lock of this process is held from now on.

    Args:
        unknown_outcomes: How many owners of the same token left without saying how it ended.
    """
    return f"{_own_lock().name}-{secrets.token_hex(6)}-{unknown_outcomes}"


def unknown_outcomes_of(owner: str) -> int:
    """Return how often the token had been claimed before, as its last owner knew."""
    last = owner.rpartition("-")[2]
    return int(last) if last.isdecimal() and len(last) < 4 else 0


def dead_among(owners: Iterable[str]) -> set[str]:
    """Return those whose process is certainly gone; may take two seconds where there seem to be any."""
    candidates = _free(owners)
    if candidates and connection.vendor == "postgresql":
        time.sleep(CONFIRM_SECONDS)
        candidates = _free(candidates)
    return candidates


class DeathWatch:
    """Watches one owner without ever blocking, for somebody who waits for it."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._free_since: float | None = None

    def is_dead(self) -> bool:
        """Say whether the lock has been free for long enough; ask a few times a second."""
        if not _free([self.owner]):
            self._free_since = None
            return False
        moment = time.monotonic()
        self._free_since = moment if self._free_since is None else self._free_since
        return connection.vendor != "postgresql" or moment - self._free_since >= CONFIRM_SECONDS


def end_session() -> None:
    """Release the lock of this process, where one is held."""
    with _guard:
        if _held:
            _held.pop().release()


def forget_dead_files(*, older_than_seconds: float) -> None:
    """Remove the lock files of processes that are gone."""
    for path in _lock_folder().glob("*.lock"):
        with suppress(FileNotFoundError):  # another process tidies up as well
            is_old = time.time() - path.stat().st_mtime > older_than_seconds
            if is_old and _is_file_free(path):
                path.unlink()


class FileLock:
    """A lock on a file: for SQLite, where all processes are on one machine."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self._file = os.open(_lock_folder() / f"{self.name}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        os.close(self._file)


class SessionLock:
    """An advisory lock of PostgreSQL, on a connection of its own that no pool takes back."""

    def __init__(self) -> None:
        key = secrets.randbits(63)
        self.name = f"{key:016x}"
        self._key = key
        self._ended = threading.Event()
        self._session = self._open()
        threading.Thread(target=self._keep, name="refresh-owner-lock", daemon=True).start()

    def release(self) -> None:
        self._ended.set()
        self._session.close()

    def _open(self) -> BaseDatabaseWrapper:
        session = connection.copy()
        session.settings_dict["OPTIONS"].pop("pool", None)
        session.inc_thread_sharing()
        with session.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [self._key])
        return session

    def _keep(self) -> None:
        """Take the lock again as soon as the database ended the session."""
        while not self._ended.is_set():
            if self._is_open(self._session):
                continue
            try:
                self._session = self._open()
            except DatabaseError:
                self._ended.wait(_RECONNECT_SECONDS)
        self._session.close()

    def _is_open(self, session: BaseDatabaseWrapper) -> bool:
        """Sleep until the server says something unasked, which it does when it goes."""
        try:
            readable, _, _ = select.select([session.connection.fileno()], [], [], 5.0)
            if readable and not self._ended.is_set():
                with session.cursor() as cursor:
                    cursor.execute("SELECT 1")
        except (DatabaseError, OSError, ValueError, AttributeError):
            if not self._ended.is_set():
                session.close()
            return False
        return True


def _own_lock() -> OwnerLock:
    with _guard:
        if not _held:
            _held.append(SessionLock() if connection.vendor == "postgresql" else FileLock())
        return _held[0]


def _after_fork() -> None:
    """A child is somebody else; it must neither use nor keep alive its parent's lock."""
    for lock in _held:
        if isinstance(lock, FileLock):
            lock.release()
    _held.clear()


def _free(owners: Iterable[str]) -> set[str]:
    locks = {owner: owner.partition("-")[0] for owner in owners}
    known = {owner: name for owner, name in locks.items() if len(name) == 16 and _is_hex(name)}
    if connection.vendor != "postgresql":
        folder = _lock_folder()
        return {owner for owner, name in known.items() if _is_file_free(folder / f"{name}.lock")}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT k FROM unnest(%s::bigint[]) AS k WHERE pg_try_advisory_xact_lock_shared(k)",
            [sorted({int(name, 16) for name in known.values()})],
        )
        free = {f"{key:016x}" for (key,) in cursor.fetchall()}
    return {owner for owner, name in known.items() if name in free}


def _is_file_free(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(file)


def _lock_folder() -> Path:
    folder = Path(settings.DATA_DIR) / "leases"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _is_hex(text: str) -> bool:
    try:
        return int(text, 16) >= 0
    except ValueError:
        return False


_held: Final[list[OwnerLock]] = []
_guard: Final = threading.Lock()
os.register_at_fork(after_in_child=_after_fork)
