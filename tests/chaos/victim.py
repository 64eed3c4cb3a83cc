"""Refreshes connections and is killed or frozen at an exact point of it.

    python -m tests.chaos.victim

Reads lines `COMMAND|ID…`, does each in a process of its own that shares nothing with the next, and answers with how it
ended: `killed`, `done` or `failed`. Commands are a phase of a single refresh; `frozen PHASE`, which says `stopped PID`
when it stands still; `batch PHASE`, one run over all that is due (any other word: to its end); `crowd COUNT`, so many
callers of each connection; `hasty FACTOR COUNT`, the same with all limits divided, where callers may give up waiting.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

PHASES = ("before claim", "claimed", "sent", "answer in socket", "answer read", "spooled", "committed")
BATCH_PHASES = ("claimed", "some sent", "some answers read", "some spooled", "some stored")
SHORT_LEASE, SHORT_REQUEST, SHORT_TRANSACTION = 4, 1.0, 2
"""Seconds, for those that are frozen."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stand_still() -> None:
    print(f"stopped {os.getpid()}", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)


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


def arm_batch(phase: str) -> None:
    """Die in the middle of a run: some rows are further than others."""
    from oauthflow.egress.token_sender import TokenSender
    from oauthflow.flows.refresh import batch
    from oauthflow.flows.refresh.spool import Reservation

    if phase == "claimed":
        after(batch, "claim_many")
    elif phase == "some sent":
        after(TokenSender, "submit", times=7)
    elif phase == "some answers read":
        after(TokenSender, "next", times=9)
    elif phase == "some spooled":
        after(Reservation, "keep", times=2)
    elif phase == "some stored":
        after(batch, "store_renewals", times=2)


def freeze(phase: str) -> None:
    """Stand still once at that point, with limits short enough to wait for."""
    from django.conf import settings

    from connections import renewals
    from oauthflow.egress import Limits
    from oauthflow.flows.refresh import keep, single

    settings.MCP_OAUTH = {"lease_seconds": SHORT_LEASE}
    Limits.REFRESH = Limits(64 * 1024, first_byte_seconds=SHORT_REQUEST, total_seconds=SHORT_REQUEST)
    if phase == "recorded":
        shorten_transactions()
    places: dict[str, tuple[Any, str]] = {
        "claimed": (single, "_exchange"), "answer read": (keep, "seal_renewal"), "recorded": (renewals, "append_many"),
    }  # fmt: skip
    place, name = places[phase]
    real = getattr(place, name)

    def frozen(*args: Any, **kwargs: Any) -> Any:
        setattr(place, name, real)
        if phase != "recorded":
            stand_still()
            return real(*args, **kwargs)
        result = real(*args, **kwargs)
        stand_still()
        return result

    setattr(place, name, frozen)


def shorten_transactions() -> None:
    """Give PostgreSQL less patience with whoever stands still inside one."""
    from django.db import connection

    from mcp_oauth_site.env import FROZEN_SECONDS

    options = connection.settings_dict["OPTIONS"]
    options["options"] = options["options"].replace(f"={FROZEN_SECONDS}s", f"={SHORT_TRANSACTION}s")


def hasten(factor: int) -> None:
    """Divide lease, waiting and deadline of a refresh, which stay in proportion."""
    from django.conf import settings

    from oauthflow.conf import configuration
    from oauthflow.egress import Limits
    from oauthflow.flows.refresh import attempt

    usual, seconds = configuration(), Limits.REFRESH.total_seconds / factor
    settings.MCP_OAUTH = {
        "lease_seconds": usual.lease_seconds // factor, "lease_wait_seconds": usual.lease_wait_seconds // factor,
    }  # fmt: skip
    Limits.REFRESH = Limits(64 * 1024, first_byte_seconds=seconds, total_seconds=seconds)
    vars(attempt)["MARGIN_SECONDS"] = attempt.MARGIN_SECONDS / factor


def wait_for_answer(reader: Any) -> None:
    select.select([reader._connection], [], [], 10)


def before(place: Any, name: str, first: Callable[..., object] = lambda *_: None) -> None:
    def bomb(*args: Any, **kwargs: Any) -> None:
        first(*args[:1])
        die()

    setattr(place, name, bomb)


def after(place: Any, name: str, *, times: int = 1) -> None:
    real, left = getattr(place, name), [times]

    def bomb(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        left[0] -= result is not None or name in ("submit", "keep", "keep_stored")
        if not left[0]:
            die()
        return result

    setattr(place, name, bomb)


def refresh(phase: str, pk: str) -> None:
    from django.utils import timezone

    from connections.models import Connection
    from oauthflow.flows.refresh import refresh_connection

    if phase.startswith("frozen "):
        freeze(phase.removeprefix("frozen "))
    else:
        arm(phase)
    refresh_connection(Connection.objects.get(pk=pk), now=timezone.now(), trigger="request")


def run_batch(phase: str) -> None:
    from django.utils import timezone

    from connections.database_time import by_database
    from oauthflow.flows.refresh_due import refresh_due

    arm_batch(phase)
    refresh_due(now=by_database(timezone.now()))


def crowd(count: int, ids: list[str], *, may_give_up: bool = False) -> None:
    """So many callers at once, again and again for each connection."""
    from django.utils import timezone

    from connections.models import Connection
    from oauthflow.flows.access_token import usable_access_token
    from oauthflow.protocol.errors import ResponseTimeoutError
    from tests.fakes.crowd import all_at_once

    def use(pk: str) -> object:
        return usable_access_token(Connection.objects.get(pk=pk), now=timezone.now())

    for pk in ids:
        for one in all_at_once(count, lambda pk=pk: use(pk)):
            if isinstance(one, Exception) and not (may_give_up and isinstance(one, ResponseTimeoutError)):
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
                elif command.startswith("hasty"):
                    factor, count = map(int, command.split()[1:])
                    hasten(factor)
                    crowd(count, rest.split(), may_give_up=True)
                elif command.startswith("batch"):
                    run_batch(command.removeprefix("batch "))
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
