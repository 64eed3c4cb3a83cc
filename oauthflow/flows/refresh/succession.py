"""Which run of a machine wakes the next: one alone, else beat would begin a chain of its own each minute."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from django.conf import settings

_FILE: Final = "refresh-run.lock"


@contextmanager
def succession() -> Iterator[bool]:
    """Say whether this run wakes the next one; it is the only one to do so until the block ends, or its process."""
    try:
        file = (Path(settings.DATA_DIR) / _FILE).open("ab")
    except OSError:  # beat goes on
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
