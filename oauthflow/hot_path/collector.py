"""Python's garbage collector: left alone, walking over all that Django keeps is a third of a run, a tenth of a call."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

_THRESHOLDS: Final = (20_000, 20, 20)


def collect_rarely() -> None:
    """Leave out what is there already, and look through the rest less often. Once, when a process has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def give_back() -> None:
    """Return memory that nothing uses to the system, after much has ended: some milliseconds.

    Python keeps lists of free objects until a full collection, and glibc gives back by itself only what lies at the end
    of its heap. Other C libraries have no such function.
    """
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
