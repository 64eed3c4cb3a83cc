"""How much one person and one process may have open at once. Security notes G13."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from ..endpoint.answers import BusyError

_WAIT_SECONDS: Final = 30


class Places:
    """Counts what is open in this process; for the event loop's thread only."""

    def __init__(self, *, of_a_user: int, of_all: int) -> None:
        self._of_a_user, self._of_all = of_a_user, of_all
        self._taken: dict[Hashable, int] = {}
        self._total = 0

    def taken(self, user: Hashable, *, at_most: int | None = None) -> _Place:
        """Hold a place for the length of a block.

        Args:
            user: The id; with a server's beside it where a server has a limit of its own.
            at_most: That limit.

        Raises:
            BusyError: As the block begins. 429, the user has as many as one may have; 503, the process has. Both say
                when to come again.
        """
        return _Place(self, user, at_most or self._of_a_user)

    def take(self, user: Hashable, *, at_most: int) -> None:
        """Take a place; for `taken`."""
        taken = self._taken.get(user, 0)
        if taken >= at_most:
            raise BusyError(429, "Too much is open for this user already.", wait_seconds=_WAIT_SECONDS)
        if self._total >= self._of_all:
            raise BusyError(503, "Too much is open already.", wait_seconds=_WAIT_SECONDS)
        self._taken[user] = taken + 1
        self._total += 1

    def give_back(self, user: Hashable) -> None:
        """Give a place back; for `taken`."""
        self._total -= 1
        left = self._taken[user] - 1
        if left:
            self._taken[user] = left
        else:
            del self._taken[user]


class _Place:
    """Taken on entering; a generator would cost more than all of it."""

    __slots__ = ("_at_most", "_places", "_user")

    def __init__(self, places: Places, user: Hashable, at_most: int) -> None:
        self._places, self._user, self._at_most = places, user, at_most

    def __enter__(self) -> None:
        self._places.take(self._user, at_most=self._at_most)

    def __exit__(self, *ended: object) -> None:
        self._places.give_back(self._user)
