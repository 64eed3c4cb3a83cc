"""Records of what must happen although the database cannot be written: kept in files, appended when it can. F09, R7.

Only releases of tokens are kept like this, so that programs work on while a database is read-only or full. A file is
fsynced before anybody gets a token, authenticated with the audit key, and appended to the chain by the process that
wrote it, or by the next one that starts here.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, InternalError, OperationalError, connection
from django.utils import timezone

from .append import Entry, append_many
from .chain import current_key

_SUFFIX: Final = ".entries"
_TAKEN: Final = ".taken"
NOT_WRITABLE: Final = (OperationalError, InternalError, InterfaceError)
_log = structlog.get_logger(__name__)


def append_or_defer(entries: Sequence[Entry]) -> None:
    """Append records, or keep them in a file where the database takes none.

    Raises:
        DatabaseError: It takes none and the file cannot be written either.
    """
    try:
        append_many(entries)
    except NOT_WRITABLE as error:
        defer(entries, because=error)
    else:
        append_deferred()


def append_deferred() -> int:
    """Append what was kept, where anything may be; return how many records.

    A file that was changed by somebody else stays, and the log says so.
    """
    if not _may_have_files.is_set() or connection.in_atomic_block:
        return 0
    _may_have_files.clear()
    return sum(_append(path) for path in sorted(_folder().glob(f"*{_SUFFIX}")))


def defer(entries: Sequence[Entry], *, because: DatabaseError | InterfaceError) -> None:
    """Keep records in a file.

    Raises:
        DatabaseError: That one, where the file cannot be written either.
    """
    try:
        _write(entries)
    except OSError:
        raise because from None
    _log.warning("audit records are deferred", exception=type(because).__name__, count=len(entries))


def _write(entries: Sequence[Entry]) -> None:
    happened_at = timezone.now().isoformat()
    lines = [
        json.dumps(entry._replace(details={**entry.details, "happened_at": happened_at}), separators=(",", ":"))
        for entry in entries
    ]
    text = "\n".join(lines)
    path = _folder() / f"{happened_at}-{secrets.token_hex(6)}{_SUFFIX}"
    hidden = path.with_suffix(".new")
    with os.fdopen(os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        file.write(f"{_mac(text)}\n{text}")
        file.flush()
        os.fsync(file.fileno())
    hidden.rename(path)
    _may_have_files.set()


def _append(path: Path) -> int:
    """Of several processes one takes the file; if it dies in between, there is a record too many, never one too few."""
    taken = path.with_suffix(_TAKEN)
    try:
        path.rename(taken)
    except FileNotFoundError:
        return 0
    mac, _, text = taken.read_text(encoding="utf-8").partition("\n")
    if not hmac.compare_digest(mac, _mac(text)):
        _log.error("deferred audit records were changed and are left where they are", path=taken.name)
        return 0
    entries = [Entry._make(json.loads(line)) for line in text.splitlines()]
    try:
        append_many(entries)
    except DatabaseError:
        taken.rename(path)
        _may_have_files.set()
        return 0
    taken.unlink()
    return len(entries)


def _mac(text: str) -> str:
    return hmac.digest(current_key().encode(), b"deferred " + text.encode(), "sha256").hex()


def _folder() -> Path:
    found = Path(settings.DATA_DIR) / "audit-deferred"
    found.mkdir(mode=0o700, exist_ok=True)
    return found


_may_have_files: Final = threading.Event()
_may_have_files.set()  # what the process before left
