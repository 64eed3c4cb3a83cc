"""Seal everything that is stored with the first key, while the site is running. K02.

Values are decrypted and encrypted whole, with the context that they are bound to inside, and replaced only where they
are still what was read. Nothing notes how far it came: a value that the first key sealed already is passed over, so
that a run that was killed is simply started again, and two at a time do each other no harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Final

from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings
from django.db import transaction

from audit.events import AuditEvent
from audit.progress import Shown, in_silence
from audit.record import record

from .key_fingerprints import (
    NO_KEY,
    KeyInUseError,
    configured_keys,
    forget_released_keys,
    key_of,
    register_keys,
    release_keys,
    removed_keys,
)
from .sealed_stores import Change, Held, SealedStore, all_stores

_BATCH: Final = 200
_PASSES: Final = 5


@dataclass(slots=True)
class Summary:
    """What a rotation did and what it left.

    Attributes:
        sealing: Fingerprint of the first key.
        rotated: Rows that this run wrote.
        values: Stored values by the fingerprint of their key, as the last look found them.
    """

    sealing: str
    rotated: int = 0
    values: Counter[str] = field(default_factory=Counter)

    @property
    def older(self) -> int:
        """Values that another key of the list sealed."""
        return self.values.total() - self.values[self.sealing] - self.values[NO_KEY]


def rotate_keys(*, now: datetime, shown: Shown = in_silence) -> Summary:
    """Seal every stored value with the first key, and note which keys nothing needs any more.

    Looks again until a whole look finds nothing left to do: somebody may have written with an older key meanwhile.

    Args:
        now: Aware UTC.
        shown: Draws progress.
    """
    register_keys()
    run = _Run(shown)
    summary = run.summary
    for label in ("Sealing", *["Looking again at"] * (_PASSES - 1)):
        summary.values = Counter()
        for store in all_stores():
            run.through(store, label=label)
        if not summary.older:
            break
    with transaction.atomic():
        release_keys(still_used=[*summary.values, summary.sealing], unreadable=summary.values[NO_KEY], now=now)
        if summary.rotated:
            _record(summary, outcome="not finished" if summary.older else "finished")
    return summary


def survey(*, shown: Shown = in_silence) -> Summary:
    """Count the stored values by key; change nothing."""
    keys = configured_keys()
    summary = Summary(sealing=keys[0].fingerprint)
    for store in all_stores():
        for held in _rows(store, shown, "Looking at"):
            summary.values.update(key_of(value, keys=keys) for value in held.values if value)
    return summary


def misplaced(*, shown: Shown = in_silence) -> Iterator[str]:
    """Yield the place of each value that does not open where it stands: no key, or sealed for another row or column."""
    for store in all_stores():
        yield from store.unopened(shown)


def ensure_keys_suffice() -> None:
    """Refuse to go on where a key was removed that stored values need; forget removed keys released some time ago.

    All values are looked at, those of this host's spool too, but only where a registered key is not listed. One that
    no value needs and no rotation released does not stop the start, but stays registered: another host may be about
    to seal with it.

    Raises:
        KeyInUseError: Values need a key that is not listed. Nothing is changed.
    """
    removed = removed_keys()
    if removed:
        unreadable = survey().values[NO_KEY]
        if unreadable > min(removed.values()):
            raise KeyInUseError(list(removed), values=unreadable)
        forget_released_keys(list(removed))
    register_keys()


class _Run:
    """One run of the rotation: its keys, and what it has done so far."""

    def __init__(self, shown: Shown) -> None:
        self._keys = configured_keys()
        self._crypter = MultiFernet([Fernet(key) for key in settings.FIELD_ENCRYPTION_KEY])
        self._shown = shown
        self.summary = Summary(sealing=self._keys[0].fingerprint)
        self._done = (self.summary.sealing, NO_KEY)

    def through(self, store: SealedStore, *, label: str) -> None:
        """Seal anew what an older key sealed in one store; count everything."""
        rows = _rows(store, self._shown, label)
        while batch := list(islice(rows, _BATCH)):
            changes = [change for held in batch if (change := self._change(held)) is not None]
            if not changes:
                continue
            if not self.summary.rotated:
                _record(self.summary, outcome="started")
            self.summary.rotated += store.replace(changes)

    def _change(self, held: Held) -> Change | None:
        found = [key_of(value, keys=self._keys) for value in held.values]
        self.summary.values.update(name for name, value in zip(found, held.values, strict=True) if value)
        if all(name in self._done for name in found):
            return None
        sealed = zip(found, held.values, strict=True)
        return Change(held, tuple(value if name in self._done else self._anew(value) for name, value in sealed))

    def _anew(self, value: str) -> str:
        return self._crypter.rotate(value).decode("ascii")


def _rows(store: SealedStore, shown: Shown, label: str) -> Iterator[Held]:
    size = store.size()
    return shown(store.rows(), size, f"{label} {store.name}") if size else iter(())


def _record(summary: Summary, *, outcome: str) -> None:
    record(
        AuditEvent.KEY_ROTATED,
        details={"target": summary.sealing, "count": summary.rotated, "outcome": outcome},
    )
