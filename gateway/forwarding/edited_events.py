"""Event streams whose messages are changed on their way; everything else in them passes to the byte.

Spec: WHATWG HTML §9.2.5, §9.2.6. G-18.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from ..endpoint.answers import FailedError

Edit = Callable[[bytes], bytes | None]
"""Returns what a client gets in place of a JSON message, or None for the message itself."""

# Whole ends of lines only: the two bytes of one are no two ends.
_END_OF_LINE: Final = re.compile(rb"\r\n|\n|\r")
_END_OF_EVENT: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)+")
_TWO_ENDS: Final = re.compile(rb"\n\n|\n\r|\r\r")
_END_BYTES: Final = 3  # the longest without its last byte
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""Before the first line, where clients pass over it. WHATWG HTML §9.2.5."""

ENDS_OF_EVENT: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")


def bounded(edit: Edit, *, only_with: bytes, most_bytes: int) -> Edit:
    """Return an edit that reads no longer message: while one is read, nobody else is served.

    A thread would not help, for reading JSON does not let go of the interpreter.

    Raises:
        FailedError: 502, by the edit; nobody knows what that message holds.
    """

    def edited(message: bytes) -> bytes | None:
        if only_with not in message:
            return None
        if len(message) > most_bytes:
            raise FailedError(502, "The server's answer is too long for what has to be looked at in it.")
        return edit(message)

    return edited


class EditedEvents:
    """Takes a stream piece by piece, and gives back whole events.

    Args:
        edit: Sees each message.
        only_with: A message without these bytes is not changed, and need not be seen.
    """

    def __init__(self, edit: Edit, *, only_with: bytes = b"") -> None:
        self._edit, self._only_with = edit, only_with
        self._held, self._searched = bytearray(), 0

    def edited(self, piece: bytes) -> bytes:
        """Return the events that are complete now."""
        if not self._held and self._only_with not in piece and piece.endswith(ENDS_OF_EVENT):
            return piece
        self._held += piece
        # What was searched is not searched again: an event of many pieces would take time without end.
        found = _END_OF_EVENT.finditer(self._held, max(0, self._searched - _END_BYTES))
        ends = [end.end() for end in found]
        events = [self._event(bytes(self._held[start:end])) for start, end in pairwise((0, *ends))]
        if ends:
            del self._held[: ends[-1]]
        self._searched = len(self._held)
        return b"".join(events)

    def rest(self) -> bytes:
        """Return what is left at the end, which some clients take for an event."""
        return self._event(bytes(self._held)) if self._held else b""

    def _event(self, event: bytes) -> bytes:
        lines = _lines(event)
        data = data_of(lines)
        changed = self._edit(data) if data is not None else None
        if changed is None:
            return event
        kept = [line for line in lines if not line.startswith(b"data:")]
        return b"\n".join((*kept, *(b"data: " + line for line in changed.split(b"\n")), b"", b""))


def messages_in(stream: bytes) -> list[bytes | None]:
    """Return the data of each event that is complete; None for one without any."""
    return [data_of(_lines(event)) for event in _TWO_ENDS.split(stream)[:-1]]


def data_of(lines: Sequence[bytes]) -> bytes | None:
    """Return the data of an event by its lines; None where it has none."""
    data = [line.removeprefix(b"data:").removeprefix(b" ") for line in lines if line.startswith(b"data:")]
    return b"\n".join(data) if data else None


def _lines(event: bytes) -> list[bytes]:
    return [line for line in _END_OF_LINE.split(event.removeprefix(_BYTE_ORDER_MARK)) if line]
