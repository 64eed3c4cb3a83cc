"""The rows of one run, a queue for each issuer: what may be sent now, and what is held back. R6."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from connections.models import TokenSet
from oauthflow.protocol.errors import FlowError

from .health import Way, is_held_back, is_held_back_from_all, require_open, troubled_among
from .pace import pace

KEPT_FREE: Final = 2
"""Of what may be under way at an issuer, for people who wait for their token."""
IN_FLIGHT: Final = 600
_REPEATED_SHARE: Final = 0.1


class _Issuer:
    """The counts are of this run: what was sent, what of it had failed before, and what failed now."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: deque[UUID] = deque()
        self.under_way: set[UUID] = set()
        self.way = Way()
        self.trying: UUID | None = None
        self.sent = self.repeated = self.failed = 0
        self.is_in_doubt = self.is_crowded = False

    @property
    def is_tried(self) -> bool:
        """Whether one row is under way to see whether the issuer is well again."""
        return self.way.is_try and self.trying in self.under_way

    def most(self, *, now: datetime) -> int:
        """Return how many may be under way, in all processes."""
        return max(1, self.way.width(now=now) - KEPT_FREE)

    def room(self, *, now: datetime) -> int:
        """Return how many of ours may be sent now."""
        if self.is_crowded or not self.waiting:
            return 0
        width = 1 if self.way.is_try else self.most(now=now)
        return max(0, min(len(self.waiting), width - len(self.under_way), pace.room(self.name)))

    def may_repeat(self) -> bool:
        """At most a tenth of what an issuer in trouble is sent are requests that failed before."""
        return not self.failed or self.repeated < max(1, _REPEATED_SHARE * self.sent)


class Queues:
    """Waiting rows, and how many of each issuer are under way."""

    def __init__(self, rows: Iterable[tuple[UUID, str]]) -> None:
        self._issuers: dict[str, _Issuer] = {}
        self._issuer_of: dict[UUID, _Issuer] = {}
        self._gates: dict[tuple[str, str], bool] = {}
        self._troubled: set[str] = set()
        for pk, name in rows:
            issuer = self._issuers.get(name) or self._issuers.setdefault(name, _Issuer(name))
            if pk not in self._issuer_of:
                issuer.waiting.append(pk)
                self._issuer_of[pk] = issuer

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not any(issuer.waiting for issuer in self._issuers.values())

    def next_rows(self, *, now: datetime) -> list[UUID]:
        """Take from every queue as many as may be under way."""
        free = IN_FLIGHT - sum(len(issuer.under_way) for issuer in self._issuers.values())
        rows: list[UUID] = []
        for issuer in self._issuers.values():
            for _ in range(min(issuer.room(now=now), free - len(rows))):
                pk = issuer.waiting.popleft()
                issuer.under_way.add(pk)
                rows.append(pk)
        return rows

    def most(self, row: TokenSet, *, now: datetime) -> int:
        """Return how many leases of this row's issuer there may be."""
        return self._issuers[row.issuer].most(now=now)

    def done(self, rows: Iterable[UUID]) -> None:
        """Make room again."""
        for pk in rows:
            issuer = self._issuer_of[pk]
            issuer.under_way.discard(pk)
            issuer.is_crowded = False

    def crowded(self, rows: Iterable[UUID]) -> None:
        """Wait with these, because other processes use the room; where they use all of it, leave it to them."""
        issuers = set()
        for pk in rows:
            issuer = self._issuer_of[pk]
            issuer.under_way.discard(pk)
            issuer.waiting.appendleft(pk)
            issuer.is_crowded = True
            issuers.add(issuer)
        for issuer in issuers:
            if not issuer.under_way:
                issuer.waiting.clear()

    def clear(self, rows: Iterable[UUID] = ()) -> None:
        """Leave everything that waits to a later run, and these rows, which were taken but not sent."""
        self.done(rows)
        for issuer in self._issuers.values():
            issuer.waiting.clear()

    def look_for_trouble(self, rows: Sequence[TokenSet]) -> None:
        """Ask once for all issuers that are new among these; `is_open` asks on where there was trouble."""
        new = {row.issuer for row in rows if (row.issuer, row.client_id) not in self._gates}
        self._troubled |= troubled_among(new) if new else set()

    def is_open(self, row: TokenSet, *, now: datetime) -> bool:
        """Whether this issuer takes this request from this client of it; where it was in trouble, one row tries."""
        issuer, key = self._issuers[row.issuer], (row.issuer, row.client_id)
        if key not in self._gates:
            self._gates[key] = self._look(issuer, row, now=now)
        elif self._gates[key] and issuer.is_tried:
            issuer.waiting.append(row.pk)
            return False
        if not self._gates[key] or (row.refresh_failures and not issuer.may_repeat()):
            return False
        if issuer.way.is_try:
            issuer.trying = row.pk
        issuer.sent += 1
        issuer.repeated += row.refresh_failures > 0
        return True

    def succeeded(self, row: TokenSet, *, now: datetime) -> bool:
        """Widen the way after a success; say whether there had been trouble, or might have been."""
        issuer = self._issuers[row.issuer]
        was_in_doubt, issuer.is_in_doubt = issuer.is_in_doubt, False
        if issuer.way.is_try:
            issuer.way = Way(reopened_at=now)
        return was_in_doubt

    def failed(self, row: TokenSet, *, now: datetime) -> None:
        """Leave an issuer alone that is held back by now."""
        issuer = self._issuers[row.issuer]
        issuer.failed, issuer.is_in_doubt = issuer.failed + 1, True
        # Where a try was answered all the same, by a refusal of the grant, the way widens as after a success.
        issuer.way = Way(reopened_at=now if issuer.way.is_try else issuer.way.reopened_at)
        if is_held_back(row, now=now):
            self._gates[row.issuer, row.client_id] = False
        if is_held_back_from_all(row.issuer, now=now):
            issuer.waiting.clear()  # not even read

    def _look(self, issuer: _Issuer, row: TokenSet, *, now: datetime) -> bool:
        try:
            way = require_open(row, now=now) if row.issuer in self._troubled else Way()
        except FlowError:
            if is_held_back_from_all(row.issuer, now=now):
                issuer.waiting.clear()
            return False
        if not issuer.is_tried:
            issuer.way, issuer.is_in_doubt = way, issuer.is_in_doubt or way.is_try
        return True
