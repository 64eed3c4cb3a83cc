"""Who is refused again and again gets no more tries for the rest of the minute: guessing is slow, honest load is not.

Counted in this process, by the address that the server has put into the scope. What is granted counts for nothing, so
that a busy program behind the same address is not slowed down. Spec: security notes Z12.
"""

from __future__ import annotations

from typing import Final

_STRETCH_SECONDS: Final = 60
_MOST_ADDRESSES: Final = 10_000


class RefusedOften:
    """Refusals of each address in the current minute.

    Args:
        limit: How many there may be; 0: as many as somebody likes.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._stretch = 0
        self._refused: dict[str, int] = {}

    def wait_seconds(self, address: str, *, now: float) -> int:
        """Return how long this address has to wait, 0 for not at all; `now` is monotonic, in seconds."""
        self._begin_stretch(now)
        if not self._limit or self._refused.get(address, 0) < self._limit:
            return 0
        return max(1, _STRETCH_SECONDS - int(now % _STRETCH_SECONDS))

    def note(self, address: str, *, now: float) -> None:
        """Count a refusal. Beyond ten thousand addresses in a minute, new ones share one count."""
        self._begin_stretch(now)
        if address not in self._refused and len(self._refused) >= _MOST_ADDRESSES:
            address = ""
        self._refused[address] = self._refused.get(address, 0) + 1

    def _begin_stretch(self, now: float) -> None:
        stretch = int(now // _STRETCH_SECONDS)
        if stretch != self._stretch:
            self._stretch = stretch
            self._refused.clear()
