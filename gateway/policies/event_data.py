"""Rewrite the data of an event stream as it passes, each event as soon as it is whole. WHATWG HTML, section 9.2."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from .tool_list import Rewrite

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
# The end of the last line of an event and the empty line after it. A CR at the end of what came may be half a CR LF.
_EVENT_END: Final = re.compile(rb"(?:\r\n|\n|\r(?=[^\n])){2}")
_LONGEST_END: Final = 3  # without its last byte


class EventRewriter:
    """Takes the bytes of a stream as they come and gives them back, the data of events rewritten.

    Comments, ids, names and pauses stay as they are; so does every byte of an event that is not changed. How long an
    event may be is for whoever reads the stream to say.
    """

    def __init__(self, rewrite: Rewrite) -> None:
        self._rewrite = rewrite
        self._waiting, self._searched = bytearray(), 0

    def feed(self, chunk: bytes) -> bytes:
        """Return what can go on."""
        self._waiting += chunk
        ends = [found.end() for found in _EVENT_END.finditer(self._waiting, max(0, self._searched - _LONGEST_END))]
        ready = [self._event(bytes(self._waiting[begin:end])) for begin, end in pairwise([0, *ends])]
        if ends:
            del self._waiting[: ends[-1]]
        self._searched = len(self._waiting)
        return b"".join(ready)

    def end(self) -> bytes:
        """Return the rest: an event without its empty line counts for no client, but one that ends with CR may."""
        rest = bytes(self._waiting)
        self._waiting.clear()
        return self._event(rest)

    def _event(self, raw: bytes) -> bytes:
        lines = _LINE_END.split(raw)
        data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
        if not data:
            return raw
        before = b"\n".join(data)
        after = self._rewrite(before)
        if after == before:
            return raw
        others = [line for line in lines if line and not line.startswith(b"data:")]
        return b"\n".join([*others, b"data: " + after, b"", b""])
