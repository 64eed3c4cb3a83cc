"""Apply what is in the spool and not in its row: answers that whoever got them could not store. R3, R4, F11."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final
from uuid import UUID

from audit.events import AuditEvent
from audit.record import record
from connections.models import TokenSet
from connections.recordset import one_of
from connections.renewals import Renewal, store_renewals

from . import owners, spool
from .orphans import end_orphans

SPOOL_UNREADABLE: Final = "spool_unreadable"
_reported: Final[set[str]] = set()
_held: Final[dict[Path, dict[UUID, int]]] = {}
"""What files hold that were read whole. A file never holds more than before; it stays for 15 minutes."""


def replay_spool() -> int:
    """Write kept answers to rows that do not have them; remove files that are old and written. Return how many rows.

    A line that does not open is left where it is, and the audit record says so once.
    """
    files = spool.files()
    for gone in _held.keys() - set(files):
        _held.pop(gone, None)
    stored = _generations({pk for path in files for pk in _rows_in(path)})
    written = sum(_replay(path) for path in files if spool.is_old(path) or not _is_written(path, stored=stored))
    spool.forget_abandoned()
    owners.forget_dead_files(older_than_seconds=spool.KEPT_SECONDS)
    return written


def _rows_in(path: Path) -> Mapping[UUID, int]:
    """Return the rows, with generations, that a file is for; it is read once, unless a line does not open."""
    if path not in _held:
        lines = list(spool.lines_of(path))
        if None in lines:
            return {}
        _held[path] = {renewal.id: renewal.generation for renewal in lines if renewal is not None}
    return _held[path]


def _is_written(path: Path, *, stored: Mapping[UUID, int]) -> bool:
    """Whether all rows of a file have at least what it holds; where not, it is read again."""
    held = _held.get(path)
    if held is not None and all(stored.get(pk, -1) >= generation for pk, generation in held.items()):
        return True
    _held.pop(path, None)
    return False


def _generations(rows: Iterable[UUID]) -> dict[UUID, int]:
    return dict(TokenSet.objects.filter(pk__in=one_of(rows)).values_list("pk", "generation"))


def _replay(path: Path) -> int:
    lines = list(spool.lines_of(path))
    newest = {renewal.id: renewal for renewal in lines if renewal is not None}
    generations = _generations(newest)
    end_orphans([one for one in newest.values() if one.id not in generations and spool.opens(one)])
    missing = [one for one in newest.values() if generations.get(one.id, one.generation) < one.generation]
    open_ones = [renewal for renewal in missing if spool.opens(renewal)]
    if None in lines or len(open_ones) < len(missing):
        _report(path, missing)
    done = store_renewals(open_ones, replayed_by="") if open_ones else set()
    if spool.is_old(path) and len(done) == len(missing) and None not in lines:
        spool.remove(path)
    return len(done)


def _report(path: Path, missing: list[Renewal]) -> None:
    if path.name in _reported:
        return
    _reported.add(path.name)
    record(
        AuditEvent.TOKEN_REFRESH_FAILED,
        reason=SPOOL_UNREADABLE,
        details={"target": path.name, "count": len(missing), "outcome": "skipped"},
    )
