"""Tell services what waits, many at a time: few to one issuer, so that a slow or dead one holds up nobody else."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from connections.models import FlowTrace, McpServer, Revocation
from oauthflow.egress import Answer, Limits, Sender, open_sender
from oauthflow.protocol.errors import FlowError, SecretUnreadableError
from oauthflow.protocol.messages import Request

from ..attempt import traced
from ..outbox import claim
from .telling import answered, failed, request_of, step_of

IN_FLIGHT_PER_ISSUER: Final = 10
IN_FLIGHT: Final = 200
_SEND_WITHIN_SECONDS: Final = 30.0
_WAIT_SECONDS: Final = 0.2
_log: Final = structlog.get_logger(__name__)


@dataclass(slots=True)
class Told:
    """How many rows of a run are over, and how often a service did not do it."""

    finished: int = 0
    failed: int = 0


def revoke_due(*, now: datetime, go_on: Callable[[], bool] = lambda: True) -> Told:
    """Send what is due until nothing is.

    Args:
        now: Aware UTC.
        go_on: Asked before anything new is begun; what is under way is awaited, ten seconds at most.
    """
    if not Revocation.objects.due(now=now).exists():
        return Told()
    with closing(open_sender(Limits.REVOCATION, step="revoke")) as sender:
        run = _Run(sender, now=now)
        while True:
            if go_on():
                run.take()
            if not run.under_way:
                return run.told
            run.settle_next()


class _Run:
    """One run of one worker."""

    def __init__(self, sender: Sender, *, now: datetime) -> None:
        self.told = Told()
        self.under_way: dict[UUID, Revocation] = {}
        self._sender, self._began, self._now = sender, time.monotonic(), now
        self._failing: set[str] = set()
        self._unreadable: set[UUID] = set()

    def take(self) -> None:
        """Claim and send what is due, as far as there is room; an issuer that failed is left to a later run."""
        due = Revocation.objects.due(now=self._moment()).exclude(issuer__in=self._failing)
        busy = Counter(row.issuer for row in self.under_way.values())
        for issuer in set(due.order_by().values_list("issuer", flat=True).distinct()):
            room = min(IN_FLIGHT_PER_ISSUER - busy[issuer], IN_FLIGHT - len(self.under_way))
            if room > 0:
                for row in due.filter(issuer=issuer).exclude(pk__in=self._unreadable)[:room]:
                    self._begin(row)

    def settle_next(self) -> None:
        """Wait a moment for an answer, and write down what became of it."""
        answer = self._sender.next(seconds=_WAIT_SECONDS)
        if answer is None:
            return
        row = self.under_way.pop(UUID(str(answer.key)))
        step = step_of(row)
        try:
            if isinstance(answer.outcome, FlowError):
                raise answer.outcome
            if answered(row, answer.outcome, now=self._moment()):
                self._send(row, request_of(row, now=self._moment()))
            else:
                self.told.finished += row.finished_at is not None
        except FlowError as error:
            self._fail(row, answer, error, step=step)

    def _moment(self) -> datetime:
        return self._now + timedelta(seconds=int(time.monotonic() - self._began))

    def _begin(self, row: Revocation) -> None:
        """Open first: what cannot be read here is never claimed here, and left to other hosts for a day. K03."""
        now = self._moment()
        try:
            request = request_of(row, now=now)
        except SecretUnreadableError as error:
            self._unreadable.add(row.pk)
            if now >= row.give_up_at:
                failed(row, error, now=now)
            return
        except FlowError as error:  # what it needs is not configured here; the other rows need something else
            self.told.failed += 1
            if claim(row, now=now):
                failed(row, error, now=now)
            return
        if claim(row, now=now):
            self._send(row, request)

    def _send(self, row: Revocation, request: Request) -> None:
        self.under_way[row.pk] = row
        self._sender.submit(row.pk, request, not_after=time.monotonic() + _SEND_WITHIN_SECONDS)

    def _fail(self, row: Revocation, answer: Answer, error: FlowError, *, step: str) -> None:
        self.told.failed += 1
        failed(row, error, now=self._moment())
        if row.issuer not in self._failing:  # one trace of many that failed alike
            self._failing.add(row.issuer)
            _log.warning("revocation.failed", issuer=row.issuer, error=str(error.code))
            _trace(row, answer, error, step=step)


def _trace(row: Revocation, answer: Answer, error: FlowError, *, step: str) -> None:
    server = McpServer.objects.filter(slug=row.server).first()
    if server is None:
        return
    connection = server.connections.filter(pk=row.connection_id).first() if row.connection_id else None
    status = None if isinstance(answer.outcome, FlowError) else answer.outcome.status
    try:
        with traced(server, kind=FlowTrace.Kind.REVOKE, connection=connection) as http:
            http.trace.add(step, url=row.endpoint, status=status, duration_ms=round(answer.seconds * 1000))
            raise error
    except FlowError:
        return
