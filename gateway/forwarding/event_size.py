"""How long the event is that a stream is in. What answers a call is counted whole; this is for streams without end."""

from __future__ import annotations

import re
from typing import Final

# Two ends of lines: the two bytes of one are no two ends. WHATWG HTML §9.2.5.
_ENDS: Final = (b"\n\n", b"\n\r", b"\r\r")
_END: Final = re.compile(b"|".join(_ENDS))


class EventSize:
    """Fed with a stream piece by piece."""

    __slots__ = ("_last", "_most", "_size")

    def __init__(self, *, most: int) -> None:
        self._most, self._size, self._last = most, 0, b""

    def is_exceeded(self, piece: bytes) -> bool:
        """Take the next piece; return whether an event that is in it is longer than may be, whole or not."""
        before, since, self._last = self._size - len(self._last), self._last + piece, piece[-1:]
        if before + len(since) > self._most:
            first, *others = _END.split(since)
            if max(before + len(first), 0, *map(len, others)) > self._most:
                return True
        end = max([since.rfind(end) for end in _ENDS])
        self._size = len(since) - end - 2 if end >= 0 else before + len(since)
        return False
