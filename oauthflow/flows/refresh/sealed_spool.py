"""The spool as a place of sealed values, so that the rotation of keys covers it. K02."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from audit.progress import Shown, in_silence
from connections.renewals import Renewal
from connections.sealed_stores import Change, Held

from . import spool


class SealedSpool:
    """The files of this machine; each has its own, and its own start looks at it."""

    name = "spool"

    def size(self) -> int:
        return len(spool.files())

    def rows(self) -> Iterator[Held]:
        """A key is a file and the values themselves, which say exactly which answer is meant."""
        for path in spool.files():
            for renewal in spool.readable(path):
                values = _values(renewal)
                yield Held((path, values), values)

    def replace(self, changes: Sequence[Change]) -> int:
        wanted: dict[Path, dict[tuple[str, ...], tuple[str, ...]]] = {}
        for change in changes:
            path, before = change.held.key
            wanted.setdefault(path, {})[before] = change.values
        return sum(_replace(path, anew) for path, anew in wanted.items())

    def unopened(self, shown: Shown = in_silence) -> Iterator[str]:
        for path in shown(spool.files(), self.size(), f"Opening {self.name}"):
            for number, renewal in enumerate(spool.lines_of(path), start=1):
                if renewal is None or not spool.opens(renewal):
                    yield f"{self.name} {path.name} line {number}"


def _replace(path: Path, anew: dict[tuple[str, ...], tuple[str, ...]]) -> int:
    """Compare and set: an answer that is not exactly as it was read stays as it is."""
    count = 0

    def changed(renewal: Renewal) -> Renewal:
        nonlocal count
        values = anew.get(_values(renewal))
        if values is None:
            return renewal
        count += 1
        access, refresh = values
        return replace(renewal, access_token_sealed=access, refresh_token_sealed=refresh)

    spool.change(path, changed)
    return count


def _values(renewal: Renewal) -> tuple[str, str]:
    return renewal.access_token_sealed, renewal.refresh_token_sealed
