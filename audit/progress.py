"""A bar for what takes long, on a terminal; silence where the output goes to a file or a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TextIO, TypeVar

Item = TypeVar("Item")

_WIDTH: Final = 30
_PAUSE_SECONDS: Final = 0.1

Shown = Callable[[Iterable[Any], int, str], Iterator[Any]]
"""Passes items through and tells how far it is: items, how many there will be, what is done."""


def in_silence(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """Tell nobody."""
    yield from items


def drawn(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """Draw a bar beside what a command prints."""
    return with_progress(items, total=total, label=label, stream=sys.stderr)


def with_progress(items: Iterable[Item], *, total: int, label: str, stream: TextIO) -> Iterator[Item]:
    """Yield the items and draw how far it is, ten times a second at most.

    Args:
        items: What is worked on, one at a time.
        total: How many there will be; 0 where nobody knows.
        label: What is done, in a word or two.
        stream: Where to draw; nothing is written unless it is a terminal.
    """
    if not stream.isatty():
        yield from items
        return
    drawn_at, done = 0.0, 0
    try:
        for done, item in enumerate(items, start=1):
            if time.monotonic() - drawn_at >= _PAUSE_SECONDS:
                drawn_at = time.monotonic()
                _draw(stream, bar(done - 1, total=total, label=label))
            yield item
        if done:
            _draw(stream, bar(done, total=total, label=label))
    finally:
        if done:
            stream.write("\n")
            stream.flush()


def bar(done: int, *, total: int, label: str) -> str:
    """Return one line that says how far it is."""
    if total <= 0:
        return f"{label} {done}"
    share = min(1.0, done / total)
    filled = round(_WIDTH * share)
    return f"{label} [{'#' * filled}{'.' * (_WIDTH - filled)}] {done}/{total} {share:4.0%}"


def _draw(stream: TextIO, line: str) -> None:
    stream.write(f"\r{line}")
    stream.flush()
