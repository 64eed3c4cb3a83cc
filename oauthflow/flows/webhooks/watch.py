"""The worker's look after webhooks: a thread beside the tasks, so that slow receivers take no place from a refresh."""

from __future__ import annotations

import threading
from functools import partial
from typing import Final

from ..watching import watch
from .deliver import deliver_due

SECONDS: Final = 3.0


def watch_webhooks(stop: threading.Event) -> None:
    """Send what is due, every three seconds until told to stop."""
    watch(partial(deliver_due, go_on=lambda: not stop.is_set()), name="webhook", every=SECONDS, stop=stop)
