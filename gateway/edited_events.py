"""Event streams whose messages are changed on their way; everything else in them passes to the byte.

Spec: WHATWG HTML §9.2.5, §9.2.6. G-18.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

Edit = Callable[[bytes], bytes | None]
"""Returns what a client gets in place of a JSON message, or None for the message itself."""

# Whole ends of lines only: the two bytes of one are no two ends.
_END_OF_LINE: Final = re.compile(rb"\r\n|\n|\r")
_END_OF_EVENT: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)+")


class EditedEvents:
    """Takes a stream piece by piece, and gives back whole events."""

    def __init__(self, edit: Edit) -> None:
        self._edit, self._held = edit, b""

    @property
    def held_bytes(self) -> int:
        """How much waits for the rest of its event."""
        return len(self._held)

    def edited(self, piece: bytes) -> bytes:
        """Return the events that are complete now."""
        return self._whole(self._held + piece)

    def rest(self) -> bytes:
        """Return what is left at the end, which some clients take for an event."""
        return self._event(self._held) if self._held else b""

    def _whole(self, data: bytes) -> bytes:
        events, start = [], 0
        for end in _END_OF_EVENT.finditer(data):
            events.append(self._event(data[start : end.end()]))
            start = end.end()
        self._held = data[start:]
        return b"".join(events)

    def _event(self, event: bytes) -> bytes:
        lines = [line for line in _END_OF_LINE.split(event) if line]
        data = [line.removeprefix(b"data:").removeprefix(b" ") for line in lines if line.startswith(b"data:")]
        changed = self._edit(b"\n".join(data)) if data else None
        if changed is None:
            return event
        kept = [line for line in lines if not line.startswith(b"data:")]
        return b"\n".join((*kept, *(b"data: " + line for line in changed.split(b"\n")), b"", b""))
