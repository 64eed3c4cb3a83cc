"""Where an answer goes first: a file that survives us. R3.

One file holds the answers that arrived together, a line each. Its space is taken before the claim, so that a full disk
stops us before a token is spent. An answer is safe once the file carries its final name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

from django.conf import settings

from connections.renewals import Renewal, RenewalUnreadableError, opened, read_renewal
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import TransportError

KEPT_SECONDS: Final = 15 * 60
_LARGEST_ANSWER_BYTES: Final = 96 * 1024
_USUAL_ANSWER_BYTES: Final = 8 * 1024
_BLOCK_BYTES: Final = 4096
_RESERVED: Final = ".reserved"
_ANSWER: Final = ".answer"
_BATCH: Final = "batch"


class SpoolError(TransportError):
    """The spool cannot be written, so that nothing may be sent: an answer might be lost."""

    default_code = Code.SERVER_ERROR


class Reservation:
    """A file with room for answers. Keep them once, or some at a time apart; `close` always."""

    def __init__(self, *, room: int = _LARGEST_ANSWER_BYTES) -> None:
        """Take the space, in bytes.

        Raises:
            SpoolError: There is none, or the folder cannot be written.
        """
        try:
            self._path = folder() / f"{secrets.token_hex(12)}{_RESERVED}"
            self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except OSError as error:
            raise SpoolError(f"the spool cannot be written: {error.strerror}") from None
        self._is_open, self._room = True, 0
        try:
            self._take(room)
        except SpoolError:
            self.close()
            raise

    def fit(self, *, answers: int) -> None:
        """Have room for so many answers, one of them of the largest; it never has less than before.

        Raises:
            SpoolError: There is none.
        """
        self._take(_LARGEST_ANSWER_BYTES + (answers - 1) * _USUAL_ANSWER_BYTES)

    def keep(self, renewals: Sequence[Renewal]) -> None:
        """Put answers on the disk.

        Raises:
            OSError: They are not there.
        """
        lines = _lines(renewals)
        if os.pwrite(self._file, lines, 0) < len(lines):  # beyond the room that was taken, on a disk that is full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(self._file, len(lines))
        os.fsync(self._file)
        final = name_of(renewals[0].id, generation=renewals[0].generation) if len(renewals) == 1 else _batch_name()
        os.rename(self._path, self._path.with_name(final))
        self._shut()
        _sync_folder()

    def keep_apart(self, renewals: Sequence[Renewal]) -> None:
        """Put some of the answers on the disk in a file of their own, so that the others still have their room here.

        Where the disk is full by now, that file gets what these do not need here any more.

        Raises:
            SpoolError: There is no room for it.
            OSError: They are not there.
        """
        needed = -(-len(_lines(renewals)) // _BLOCK_BYTES) * _BLOCK_BYTES
        try:
            own = Reservation(room=needed)
        except SpoolError:
            self._give_back(needed)
            own = Reservation(room=needed)
        with closing(own):
            own.keep(renewals)

    def close(self) -> None:
        """Give the space back, where nothing was kept."""
        if self._is_open:
            self._shut()
            self._path.unlink(missing_ok=True)

    def _take(self, room: int) -> None:
        if room <= self._room:
            return
        try:
            os.posix_fallocate(self._file, self._room, room - self._room)
        except OSError as error:
            os.ftruncate(self._file, self._room)
            raise SpoolError(f"the spool has no room: {error.strerror}") from None
        self._room = room

    def _give_back(self, size: int) -> None:
        self._room = max(0, self._room - size)
        os.ftruncate(self._file, self._room)

    def _shut(self) -> None:
        self._is_open = False
        os.close(self._file)


def folder() -> Path:
    """Return the folder of the spool, which only we may read."""
    found = Path(settings.DATA_DIR) / "spool"
    found.mkdir(mode=0o700, exist_ok=True)
    return found


def name_of(token_set_id: UUID, *, generation: int) -> str:
    """Return the name of the file that holds one answer."""
    return f"{token_set_id.hex}.{generation}{_ANSWER}"


def answer_for(token_set_id: UUID, *, newer_than: int, search: bool) -> Renewal | None:
    """Return the newest kept answer for a row that its generation does not have yet.

    Args:
        token_set_id: The row.
        newer_than: Its generation.
        search: Whether to read the files of many answers too. Else only the file of the next generation is looked for,
            which costs next to nothing.
    """
    files = [folder() / name_of(token_set_id, generation=newer_than + 1)]
    if search:
        files = [*folder().glob(f"{token_set_id.hex}.*{_ANSWER}"), *folder().glob(f"{_BATCH}.*{_ANSWER}")]
    found = [
        renewal
        for path in files
        for renewal in readable(path)
        if renewal.id == token_set_id and renewal.generation > newer_than
    ]
    return max(filter(opens, found), key=lambda renewal: renewal.generation, default=None)


def opens(renewal: Renewal) -> bool:
    """Whether our keys open what was kept."""
    try:
        opened(renewal)
    except RenewalUnreadableError:
        return False
    return True


def files() -> list[Path]:
    """Return the files that hold answers, oldest first."""
    return sorted(folder().glob(f"*{_ANSWER}"), key=_age, reverse=True)


def readable(path: Path) -> Iterator[Renewal]:
    """Yield the answers of a file that open here."""
    for renewal in lines_of(path):
        if renewal is not None:
            yield renewal


def lines_of(path: Path) -> Iterator[Renewal | None]:
    """Yield the answers of a file, None for one that does not open; nothing where the file is gone."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    except OSError:
        lines = ["(unreadable)"]
    for line in lines or [""]:
        try:
            yield read_renewal(line)
        except RenewalUnreadableError:
            yield None


def forget(renewal: Renewal) -> None:
    """Remove an answer that nobody may apply: the grant was taken away while it was on its way."""
    forgotten = (renewal.id, renewal.lease_owner)
    own = folder() / name_of(renewal.id, generation=renewal.generation)
    for path in (own, *folder().glob(f"{_BATCH}.*{_ANSWER}")):
        change(path, lambda one: None if (one.id, one.lease_owner) == forgotten else one)


def change(path: Path, changed: Callable[[Renewal], Renewal | None]) -> None:
    """Replace or remove answers of a file, at once or not at all; who else changes or removes files waits.

    Args:
        path: The file; nothing happens where it is gone.
        changed: Says for each answer what is to stand there, None for nothing. A line that does not open stays.
    """
    with _alone():
        try:
            before = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except FileNotFoundError:
            return
        after = [line for line in (_changed(line, changed) for line in before) if line is not None]
        if not after:
            path.unlink()
        elif after != before:
            _replace(path, after)


def remove(path: Path) -> None:
    """Remove a file that is old and written."""
    with _alone():
        path.unlink(missing_ok=True)


def is_old(path: Path) -> bool:
    """Whether a file has been kept for long enough."""
    return _age(path) > KEPT_SECONDS


def forget_abandoned() -> None:
    """Remove reservations of owners that died before an answer came."""
    for path in folder().glob(f"*{_RESERVED}"):
        if is_old(path):
            path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _changed(line: str, changed: Callable[[Renewal], Renewal | None]) -> str | None:
    try:
        renewal = read_renewal(line)
    except RenewalUnreadableError:
        return line
    anew = changed(renewal)
    if anew is None:
        return None
    return line if anew is renewal else anew.as_line()


def _replace(path: Path, lines: Sequence[str]) -> None:
    """The file keeps its age."""
    age = path.stat().st_mtime
    anew = path.with_name(f"{secrets.token_hex(12)}{_RESERVED}")
    with os.fdopen(os.open(anew, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))
        file.flush()
        os.utime(file.fileno(), (age, age))
        os.fsync(file.fileno())
    os.replace(anew, path)
    _sync_folder()


@contextmanager
def _alone() -> Iterator[None]:
    """One at a time changes or removes files, of all processes on this machine."""
    opened = os.open(folder(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _lines(renewals: Sequence[Renewal]) -> bytes:
    return "".join(f"{renewal.as_line()}\n" for renewal in renewals).encode()


def _batch_name() -> str:
    return f"{_BATCH}.{secrets.token_hex(12)}{_ANSWER}"


def _sync_folder() -> None:
    """Make the new name last."""
    opened = os.open(folder(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
