"""Learn that the process was told to stop, before the server waits for open connections."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType


def on_termination(callback: Callable[[], None]) -> None:
    """Have `callback` called in the running event loop when SIGTERM or SIGINT comes, besides what else happens then.

    The server tells the application that it stops only after all connections are closed, and a stream closes only when
    it is told. Does nothing outside of the main thread, which alone gets signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)
        if callable(previous):
            signal.signal(number, _both(loop, callback, previous))


def _both(
    loop: asyncio.AbstractEventLoop,
    callback: Callable[[], None],
    previous: Callable[[int, FrameType | None], object],
) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(callback)
        previous(number, frame)

    return handle
