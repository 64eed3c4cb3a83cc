"""The worker's look after what services still have to be told: a thread beside the tasks, as for webhooks."""

from __future__ import annotations

import threading
from typing import Final

from django.utils import timezone

from ..watching import watch
from .batch import revoke_due

SECONDS: Final = 5.0


def watch_revocations(stop: threading.Event) -> None:
    """Send what is due, every five seconds until told to stop."""

    def look() -> None:
        revoke_due(now=timezone.now(), go_on=lambda: not stop.is_set())

    watch(look, name="revocation", every=SECONDS, stop=stop)
