"""Refreshes connections and is killed at an exact point of it.

    python -m tests.chaos.victim PATH_OF_JSON_SETTINGS

Reads lines `PHASE CONNECTION-ID` (or `crowd COUNT ID…`), does each in a process of its own that shares nothing with the
next, and answers with how it ended: `killed`, `done` or what it raised.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

PHASES = ("before claim", "claimed", "sent", "answer in socket", "answer read", "spooled", "committed")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(phase: str) -> None:
    """Put the bomb where the phase ends."""
    from oauthflow.egress.guarded_connections import MeteredReader
    from oauthflow.flows.refresh import keep, single
    from oauthflow.flows.refresh.spool import Reservation

    if phase == "before claim":
        before(single, "_claim")
    elif phase == "claimed":
        before(single, "_exchange")
    elif phase == "sent":
        before(MeteredReader, "readinto")
    elif phase == "answer in socket":
        before(MeteredReader, "readinto", wait_for_answer)
    elif phase == "answer read":
        before(keep, "seal_renewal")
    elif phase == "spooled":
        after(Reservation, "keep")
    elif phase == "committed":
        after(single, "keep_stored")


def wait_for_answer(reader: Any) -> None:
    select.select([reader._connection], [], [], 10)


def before(place: Any, name: str, first: Callable[..., object] = lambda *_: None) -> None:
    def bomb(*args: Any, **kwargs: Any) -> None:
        first(*args[:1])
        die()

    setattr(place, name, bomb)


def after(place: Any, name: str) -> None:
    real = getattr(place, name)

    def bomb(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        die()

    setattr(place, name, bomb)


def refresh(phase: str, pk: str) -> None:
    from django.utils import timezone

    from connections.models import Connection
    from oauthflow.flows.refresh import refresh_connection

    arm(phase)
    refresh_connection(Connection.objects.get(pk=pk), now=timezone.now(), trigger="request")


def crowd(count: int, ids: list[str]) -> None:
    """So many callers at once, again and again for each connection."""
    from django.utils import timezone

    from connections.models import Connection
    from oauthflow.flows.access_token import usable_access_token
    from tests.fakes.crowd import all_at_once

    def use(pk: str) -> object:
        return usable_access_token(Connection.objects.get(pk=pk), now=timezone.now())

    for pk in ids:
        for one in all_at_once(count, lambda pk=pk: use(pk)):
            if isinstance(one, Exception):
                raise one


def main() -> None:
    import django

    django.setup()
    from django.db import connections

    from oauthflow.flows.refresh.owners import end_session

    print("ready", flush=True)
    for line in sys.stdin:
        command, _, rest = line.strip().rpartition("|")
        connections.close_all()
        child = os.fork()
        if child == 0:
            code = 0
            try:
                if command.startswith("crowd"):
                    crowd(int(command.split()[1]), rest.split())
                else:
                    refresh(command, rest)
            except Exception as error:
                print(repr(error), file=sys.stderr, flush=True)
                code = 1
            end_session()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else ("done", "failed")[os.WEXITSTATUS(status)], flush=True)


if __name__ == "__main__":
    main()
