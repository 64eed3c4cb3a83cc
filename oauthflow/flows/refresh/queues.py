"""The rows of one run, a queue for each issuer: what may be sent now, and what is held back. R6."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from connections.models import TokenSet
from oauthflow.protocol.errors import FlowError

from .health import is_held_back, require_open

IN_FLIGHT_PER_ISSUER: Final = 20
IN_FLIGHT: Final = 600


class _Issuer:
    """`width` is how many may be under way; after trouble it grows from 1."""

    def __init__(self) -> None:
        self.waiting: deque[UUID] = deque()
        self.under_way: set[UUID] = set()
        self.width = IN_FLIGHT_PER_ISSUER


class Queues:
    """Waiting rows, and how many of each issuer are under way."""

    def __init__(self, rows: Iterable[tuple[UUID, str]]) -> None:
        self._issuers: dict[str, _Issuer] = {}
        self._issuer_of: dict[UUID, _Issuer] = {}
        self._gates: dict[tuple[str, str], bool] = {}
        for pk, name in rows:
            issuer = self._issuers.setdefault(name, _Issuer())
            if pk not in self._issuer_of:
                issuer.waiting.append(pk)
                self._issuer_of[pk] = issuer

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not any(issuer.waiting for issuer in self._issuers.values())

    def next_rows(self) -> list[UUID]:
        """Take from every queue as many as may be under way."""
        free = IN_FLIGHT - sum(len(issuer.under_way) for issuer in self._issuers.values())
        rows: list[UUID] = []
        for issuer in self._issuers.values():
            if not issuer.under_way:
                issuer.width = max(1, issuer.width)
            for _ in range(min(issuer.width - len(issuer.under_way), len(issuer.waiting), free - len(rows))):
                pk = issuer.waiting.popleft()
                issuer.under_way.add(pk)
                rows.append(pk)
        return rows

    def done(self, rows: Iterable[UUID]) -> None:
        """Make room again."""
        for pk in rows:
            self._issuer_of[pk].under_way.discard(pk)

    def clear(self, rows: Iterable[UUID]) -> None:
        """Leave everything that waits to a later run."""
        self.done(rows)
        for issuer in self._issuers.values():
            issuer.waiting.clear()

    def is_open(self, row: TokenSet, *, now: datetime) -> bool:
        """Whether this issuer takes requests from this client of it; where it was in trouble, one row tries."""
        key = (row.issuer, row.client_id)
        if key not in self._gates:
            try:
                is_try = require_open(row, now=now)
            except FlowError:
                self._gates[key] = False
            else:
                self._gates[key] = True
                if is_try:
                    self._only_one(row)
        elif self._issuers[row.issuer].width == 0:
            self._put_back(row)
            return False
        return self._gates[key]

    def succeeded(self, row: TokenSet) -> bool:
        """Widen the way after a success; say whether there had been trouble, or might have been."""
        issuer = self._issuers[row.issuer]
        was_full = issuer.width == IN_FLIGHT_PER_ISSUER
        issuer.width = min(max(1, issuer.width) * 2, IN_FLIGHT_PER_ISSUER)
        return not was_full

    def failed(self, row: TokenSet, *, now: datetime) -> None:
        """Leave an issuer alone that is held back by now."""
        if is_held_back(row, now=now):
            self._gates[row.issuer, row.client_id] = False
            self._issuers[row.issuer].width = max(1, self._issuers[row.issuer].width)

    def _only_one(self, row: TokenSet) -> None:
        self._issuers[row.issuer].width = 0

    def _put_back(self, row: TokenSet) -> None:
        self._issuers[row.issuer].waiting.append(row.pk)
