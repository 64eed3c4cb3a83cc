"""Refresh many grants in one pipeline: leases, requests, spool and rows each for many at a time. R1 to R6.

All database work happens in the caller's thread, all network work in the sender's. An issuer never has more than 20
leases of a run at a time, so that what is leased is sent at once and a slow issuer holds up nobody else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

import structlog
from django.contrib.auth.models import User
from django.db import DatabaseError, InterfaceError, connection

from connections.leases import Claim, Claimed, claim_many, give_lease_back
from connections.models import ClientRegistration, Connection, FlowTrace, McpServer, TokenSet
from connections.recordset import one_of
from connections.renewals import Renewal, seal_renewal, store_renewals
from oauthflow.conf import configuration
from oauthflow.egress import Answer, Sender, open_sender
from oauthflow.protocol.errors import FlowError, InvalidRequestError, NoClientError
from oauthflow.protocol.messages import Request
from oauthflow.protocol.token_endpoint import TokenResponse

from ..attempt import traced
from . import owners
from .attempt import Attempt, read_answer, request_of
from .failure import OUTCOME_LOST, end, pause, quarantine, settle
from .health import note_success
from .keep import keep_or_give_back, persistently, spool
from .pace import pace
from .queues import Queues
from .replay import replay_spool
from .spool import Reservation

Result = TypeVar("Result")

_FLUSH_ROWS: Final = 200
_FLUSH_SECONDS: Final = 0.02
_IDLE_SECONDS: Final = 0.2
_NOT_NEEDED: Final = ("access_token_sealed", "refresh_due_at", "lease_expires_at", "next_attempt_at")
_NEEDED: Final = ("server", "user", "status", "requested_scopes", "dpop_key_sealed")
_STORE_SECONDS: Final = 120.0
_log: Final = structlog.get_logger(__name__)


@dataclass(slots=True)
class Outcome:
    """How many of a run were renewed, and how many not."""

    refreshed: int = 0
    failed: int = 0


def refresh_many(
    rows: Iterable[tuple[UUID, str]],
    *,
    now: datetime,
    dead_owners: frozenset[str] = frozenset(),
    go_on: Callable[[], bool] = lambda: True,
) -> Outcome:
    """Refresh these rows, as far as nobody else does it.

    Args:
        rows: Ids of token sets with their issuers, the most urgent first.
        now: Aware UTC.
        dead_owners: Whose leases are taken over.
        go_on: Asked before anything new is claimed; what is under way is awaited, for as long as a refresh may take.
    """
    queues = Queues(rows)
    if queues.is_empty:
        return Outcome()
    with closing(open_sender()) as sender, closing(_Run(queues, sender, now=now, dead_owners=dead_owners)) as run:
        run.through(go_on)
        return run.outcome


class _Run:
    def __init__(self, queues: Queues, sender: Sender, *, now: datetime, dead_owners: frozenset[str]) -> None:
        self.outcome = Outcome()
        self._queues, self._sender = queues, sender
        self._began, self._now, self._dead_owners = time.monotonic(), now, dead_owners
        self._under_way: dict[Hashable, Attempt] = {}
        self._unstored: list[tuple[Attempt, TokenResponse, Renewal]] = []
        self._store_until = 0.0
        self._room: Reservation | None = None
        self._servers: dict[UUID, McpServer] = {}
        self._registrations: dict[UUID, ClientRegistration] = {}

    def close(self) -> None:
        if self._room is not None:
            self._room.close()

    def through(self, go_on: Callable[[], bool]) -> None:
        """Claim, send and keep until nothing waits and nothing is under way; whatever happens, keep what comes."""
        while not self._queues.is_empty or self._under_way or self._unstored:
            if not self._queues.is_empty and not go_on():
                self._queues.clear()
            try:
                if not self._unstored:  # else the database is away
                    self._claim(self._queues.next_rows(now=self._moment()))
                self._keep(self._collected())
                self._store()
            except (DatabaseError, InterfaceError) as error:
                self._leave_the_rest(error)

    def _leave_the_rest(self, error: Exception, ids: Sequence[UUID] = ()) -> None:
        """The database, or the spool, is not writable: nothing more is sent."""
        _log.warning("refresh.batch_stopped", exception=type(error).__name__)
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
        self._queues.clear(ids)

    def _moment(self) -> datetime:
        """Whole seconds only, rounded down: what was obtained is rather taken for older than it is."""
        return self._now + timedelta(seconds=int(time.monotonic() - self._began))

    def _claim(self, ids: Sequence[UUID]) -> None:
        """Open, lease and send these rows; one that cannot be opened is never leased."""
        if not ids:
            return
        try:
            rows, make = self._unanswered(ids), partial(self._made, now=self._moment())
            self._queues.look_for_trouble(rows)
            ready = [made for row in rows if (made := self._guarded(row, make)) is not None]
            left = set(ids) - {attempt.token_set.id for attempt, _ in ready}
            taken, crowded = self._leased([attempt for attempt, _ in ready])
        except (DatabaseError, InterfaceError, FlowError) as error:
            self._leave_the_rest(error, ids)
            return
        for attempt, request in ready:
            pk = attempt.token_set.id
            if pk not in taken or self._is_given_up(attempt):
                left.add(pk)
                continue
            self._under_way[pk] = attempt
            pace.note_sent(attempt.token_set.issuer)
            self._sender.submit(pk, request, not_after=attempt.send_before())
        self._queues.done(left - crowded)
        self._queues.crowded(crowded)

    def _leased(self, attempts: Sequence[Attempt]) -> Claimed:
        if not attempts:
            return Claimed(set(), set())
        self._room = self._room or Reservation()
        self._room.fit(answers=len(self._under_way) + len(attempts))
        started, owner = time.monotonic(), owners.new_owner()
        claims = []
        for attempt in attempts:
            before = attempt.token_set.lease_owner
            attempt.claimed_at, attempt.owner, attempt.is_recovery = started, owner, bool(before)
            if before:
                attempt.owner = owners.new_owner(unknown_outcomes=owners.unknown_outcomes_of(before) + 1)
            most = self._queues.most(attempt.token_set, now=attempt.now)
            claims.append(Claim(attempt.token_set, attempt.owner, before if before in self._dead_owners else "-", most))
        return claim_many(claims, seconds=configuration().lease_seconds)

    def _made(self, row: TokenSet, *, now: datetime) -> tuple[Attempt, Request] | None:
        attempt = Attempt(row, "schedule", None, now, owner=row.lease_owner)
        if not self._queues.is_open(row, now=now):
            return None
        try:
            request = request_of(row, now=now)
            return (attempt, request) if request else None
        except (NoClientError, InvalidRequestError) as error:
            pause(attempt, error)
            raise

    def _is_given_up(self, attempt: Attempt) -> bool:
        if not attempt.is_given_up:
            return False
        self._guarded(attempt.token_set, partial(_give_up, attempt))
        return True

    def _collected(self) -> list[Answer]:
        """Wait for an answer, and then a moment for more."""
        if not self._under_way and not self._queues.is_empty:
            time.sleep(_FLUSH_SECONDS)  # the pace of an issuer
        answers = self._at_hand()
        if not answers and self._under_way and (first := self._sender.next(seconds=_IDLE_SECONDS)) is not None:
            answers = [first, *self._at_hand()]
        if answers and len(answers) < min(_FLUSH_ROWS, len(self._under_way)):
            time.sleep(_FLUSH_SECONDS)
            answers += self._at_hand()
        return answers

    def _at_hand(self) -> list[Answer]:
        return list(iter(partial(self._sender.next, seconds=0.0), None))

    def _keep(self, answers: Sequence[Answer]) -> None:
        """Judge; put on the disk what was granted, before anything is written anywhere.

        An answer at which we fail ourselves is that row's trouble, after the others are kept.
        """
        granted: list[tuple[Attempt, TokenResponse, Renewal]] = []
        failed: list[tuple[Attempt, Answer, Exception]] = []
        now = self._moment()
        for answer in answers:
            attempt = self._under_way.pop(answer.key)
            attempt.now = now
            try:
                tokens = _judged(attempt, answer)
                granted.append((attempt, tokens, _sealed(attempt, tokens)))
            except Exception as error:
                failed.append((attempt, answer, error))
        if granted:
            self._put_on_disk([renewal for _, _, renewal in granted])
            self._store_until = self._store_until if self._unstored else time.monotonic() + _STORE_SECONDS
            self._unstored += granted
            self._store()
        for attempt, answer, reason in failed:
            self._guarded(attempt.token_set, partial(self._fail, attempt, answer, reason))
        self._queues.done(attempt.token_set.id for attempt, _, _ in failed)

    def _put_on_disk(self, renewals: Sequence[Renewal]) -> None:
        if self._room is not None:
            spool(renewals, put=self._room.keep_apart)

    def _store(self) -> None:
        """Write what is on the disk to the rows; try again for two minutes, then leave it to the spool."""
        if not self._unstored:
            return
        try:
            written = store_renewals([renewal for _, _, renewal in self._unstored])
        except (DatabaseError, InterfaceError) as error:
            _log.warning("refresh.outcome_not_stored_yet", exception=type(error).__name__, count=len(self._unstored))
            if time.monotonic() < self._store_until and not connection.in_atomic_block:
                connection.close()
                time.sleep(_IDLE_SECONDS)
                return
            written = {renewal.id for _, _, renewal in self._unstored}
            self.outcome.refreshed -= len(written)
        stored, self._unstored = self._unstored, []
        self.outcome.refreshed += len(written)
        self._queues.done(renewal.id for _, _, renewal in stored)
        for attempt, tokens, renewal in stored:
            if renewal.id not in written:
                self._guarded(attempt.token_set, partial(_keep_or_give_back, attempt, renewal, tokens))
            elif self._queues.succeeded(attempt.token_set, now=attempt.now):
                note_success(attempt.token_set, now=attempt.now)

    def _fail(self, attempt: Attempt, answer: Answer, error: Exception, token_set: TokenSet) -> None:
        if not isinstance(error, FlowError):
            raise error
        if not answer.was_sent:
            give_lease_back(token_set, lease_owner=attempt.owner)
            return
        try:
            with traced(
                token_set.connection.server, kind=FlowTrace.Kind.REFRESH, connection=token_set.connection
            ) as http:
                status = None if isinstance(answer.outcome, FlowError) else answer.outcome.status
                http.trace.add(
                    "refresh", url=token_set.token_endpoint, status=status, duration_ms=round(answer.seconds * 1000)
                )
                raise error
        except FlowError:
            persistently(lambda: settle(attempt, error), seconds=attempt.patience_seconds)
        finally:
            self._queues.failed(token_set, now=attempt.now)

    def _guarded(self, row: TokenSet, work: Callable[[TokenSet], Result]) -> Result | None:
        """One row's trouble is that row's: it is written down and the others go on. F24."""
        try:
            return work(row)
        except FlowError:  # recorded where it happened
            self.outcome.failed += 1
        except (DatabaseError, InterfaceError):
            raise
        except Exception:
            _log.exception("refresh.row_failed", connection=str(row.connection_id))
            self.outcome.failed += 1
            quarantine(row, now=self._moment())
        return None

    def _unanswered(self, ids: Sequence[UUID]) -> list[TokenSet]:
        """Read; where an owner left a row in the middle, its answer may lie in the spool since this run began. R4."""
        rows = self._read(ids)
        if any(row.lease_owner for row in rows) and replay_spool():
            rows = self._read(ids)
        return rows

    def _read(self, ids: Sequence[UUID]) -> list[TokenSet]:
        """Rows in this order, with what they need; servers and registrations are read once for a run.

        Another run may have had the same list: what it renewed or put off since, or has under way, is left out. Each
        statement begins from the ids: with a join, both databases would go through all active connections.
        """
        named = TokenSet.objects.filter(pk__in=one_of(ids)).unleased(dead_owners=self._dead_owners)
        found = {row.id: row for row in named.awaiting_refresh(now=self._moment()).defer(*_NOT_NEEDED)}
        connections = _connections(row.connection_id for row in found.values())
        servers = {one.server_id for one in connections.values()} - self._servers.keys()
        self._servers |= McpServer.objects.in_bulk(servers) if servers else {}
        clients = {row.registration_id for row in found.values() if row.registration_id} - self._registrations.keys()
        self._registrations |= ClientRegistration.objects.in_bulk(clients) if clients else {}
        rows = [row for pk in ids if (row := found.get(pk)) is not None and row.connection_id in connections]
        return [row for row in rows if self._completed(row, connections[row.connection_id])]

    def _completed(self, row: TokenSet, connection: Connection) -> bool:
        """Give it what was read for it; where a part was deleted in between, the row has gone or changed as well."""
        try:
            connection.server = self._servers[connection.server_id]
            row.registration = self._registrations[row.registration_id] if row.registration_id else None
        except KeyError:
            return False
        row.connection = connection
        return True


def _connections(ids: Iterable[UUID]) -> dict[UUID, Connection]:
    """Those that are live, of nobody who was deactivated. Of which status they are is no question to an index."""
    found = Connection.objects.filter(pk__in=one_of(ids)).order_by().only(*_NEEDED)
    working = [one for one in found if one.status in Connection.WORKING]
    people = {one.user_id for one in working if one.user_id is not None}
    gone = set(User.objects.filter(pk__in=people, is_active=False).values_list("pk", flat=True)) if people else set()
    return {one.pk: one for one in working if one.user_id not in gone}


def _judged(attempt: Attempt, answer: Answer) -> TokenResponse:
    if isinstance(answer.outcome, FlowError):
        raise answer.outcome
    return read_answer(attempt, answer.outcome)


def _sealed(attempt: Attempt, tokens: TokenResponse) -> Renewal:
    return seal_renewal(
        attempt.token_set,
        tokens,
        lease_owner=attempt.owner,
        actor=attempt.actor,
        trigger=attempt.trigger,
        now=attempt.now,
    )


def _give_up(attempt: Attempt, _: TokenSet) -> None:
    end(attempt, reason=OUTCOME_LOST)


def _keep_or_give_back(attempt: Attempt, renewal: Renewal, tokens: TokenResponse, _: TokenSet) -> None:
    keep_or_give_back(attempt, renewal, tokens)
