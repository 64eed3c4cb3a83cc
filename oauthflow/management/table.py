"""Tables and JSON on a terminal; what other programs sent cannot move its cursor or colour it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_WIDEST: Final = 100


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return lines with columns under headings; cells lose control characters and what exceeds 100 characters."""
    cells = [list(headings), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def printable(text: str) -> str:
    """Return the text on one line without anything that a terminal acts upon."""
    return _CONTROL.sub(" ", text)


def as_json(value: object) -> str:
    """Return readable JSON in which everything that a terminal acts upon is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "\n".join(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line) for line in text.split("\n"))


def _cell(value: object) -> str:
    text = printable("" if value is None else str(value))
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
