"""Refresh one grant: one request at a time for a connection, in all processes together.

The lease is one conditional UPDATE on the database's clock. Whoever does not get it waits for the winner's row, or
follows an owner that died. Only `invalid_grant` ends a grant, and only if no newer tokens were stored meanwhile;
everything else costs a pause.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from functools import partial
from math import ceil
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, InternalError, OperationalError

from connections.leases import IN_FLIGHT_PER_ISSUER, give_lease_back, lease_for_refresh
from connections.models import Connection, FlowTrace, TokenSet
from connections.renewals import Renewal, store_renewals
from oauthflow.conf import configuration
from oauthflow.egress import Egress, Limits
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import (
    AuthorizationRequiredError,
    ClientRefusedError,
    FlowError,
    GrantRefusedError,
    InvalidRequestError,
    IssuerChangedError,
    NoClientError,
    ResponseTimeoutError,
)
from oauthflow.protocol.messages import Request
from oauthflow.protocol.retry_after import ServerUnavailableError
from oauthflow.protocol.token_endpoint import TokenResponse

from ..attempt import traced
from ..bind_tokens import bound
from . import owners, spool
from .attempt import Attempt, read_answer, request_of
from .failure import OUTCOME_LOST, end, pause, settle
from .health import note_success, require_open
from .keep import keep_safe, keep_stored, persistently
from .pace import pace
from .unattended import request_with_identity
from .waiting import wait_for_the_winner

if TYPE_CHECKING:
    from django.contrib.auth.models import User

_DATABASE_RETRY_SECONDS = 5


def refresh_connection(
    connection: Connection,
    *,
    now: datetime,
    trigger: str,
    actor: User | None = None,
    generation: int | None = None,
    stored: Callable[[], object] = lambda: None,
) -> Connection:
    """Renew the tokens of a connection, or wait for whoever is doing it.

    Args:
        connection: The connection; its status is updated in place.
        now: Aware UTC.
        trigger: Why, for the record: use, refused, schedule, request. A person's request is tried even in the pause
            after a failure, and even with a grant that was refused before.
        actor: Who asked for it, None for the system.
        generation: Of the tokens that the caller found wanting; newer ones are left as they are.
        stored: Called as soon as new tokens can be read, before what else there is to note about them.

    Raises:
        AuthorizationRequiredError: The grant has ended or was never there; a person has to sign in.
        ClientRefusedError: The server does not know us any more; the grant is kept.
        TransportError: The server cannot be reached or answers nonsense, or our database or spool cannot be written;
            the grant is kept.
        IssuerChangedError: The server moved, before anything was sent or while the answer was on its way.
        SecretUnreadableError: The stored token does not open; nothing was sent.
        GrantRefusedError: The grant has ended, and it is one for which nobody can sign in.

    Spec: RFC 6749 §6. X-12, X-13.
    """
    try:
        return _refreshed(connection, now=now, trigger=trigger, actor=actor, generation=generation, stored=stored)
    except AuthorizationRequiredError as error:
        if connection.server.has_sign_in:
            raise
        raise GrantRefusedError(f"{error.detail}; connect it again once the cause is gone") from error
    except (OperationalError, InternalError, InterfaceError) as error:
        raise ServerUnavailableError(
            f"the database is away or cannot be written: {type(error).__name__}", retry_after=_DATABASE_RETRY_SECONDS
        ) from error


def _refreshed(
    connection: Connection,
    *,
    now: datetime,
    trigger: str,
    actor: User | None,
    generation: int | None,
    stored: Callable[[], object],
) -> Connection:
    token_set = (
        TokenSet.objects.select_related("connection__server", "registration").filter(connection=connection).first()
    )
    if token_set is None or not token_set.is_renewable:
        raise AuthorizationRequiredError("there is no refresh token", reason=connection.reason or "no_refresh_token")
    if generation is not None and token_set.generation != generation:
        connection.refresh_from_db()
        return connection
    _check_worth_trying(token_set, trigger=trigger, now=now)
    attempt = Attempt(token_set, trigger, actor, now, stored=stored)
    try:
        request = request_of(token_set, now=now)
    except (NoClientError, InvalidRequestError) as error:
        attempt.owner = token_set.lease_owner
        pause(attempt, error)
        raise
    except AuthorizationRequiredError as error:
        end(attempt, reason=error.reason, cause=error)
        raise
    most = IN_FLIGHT_PER_ISSUER
    if trigger != "request":
        most = require_open(token_set, now=now).width(now=now)
        _require_pace(token_set)
    _refresh_or_wait(attempt, request, most=most)
    try:
        connection.refresh_from_db()
    except Connection.DoesNotExist:
        raise AuthorizationRequiredError("deleted meanwhile", reason="disconnected") from None
    if connection.status == Connection.Status.ISSUER_CHANGED:  # whatever came, nobody may use it
        raise IssuerChangedError("moved meanwhile, and waits for an administrator")
    return connection


def _check_worth_trying(token_set: TokenSet, *, trigger: str, now: datetime) -> None:
    connection = token_set.connection
    if connection.status == Connection.Status.ISSUER_CHANGED:
        raise IssuerChangedError("waits for an administrator")
    if trigger == "request":
        return
    if connection.status == Connection.Status.REAUTH_REQUIRED:
        raise AuthorizationRequiredError("the grant was refused before", reason=connection.reason)
    if token_set.next_attempt_at is not None and token_set.next_attempt_at > now:
        if connection.reason in (Code.INVALID_CLIENT, Code.UNAUTHORIZED_CLIENT):
            raise ClientRefusedError("refused a moment ago", code=Code(connection.reason))
        wait = ceil((token_set.next_attempt_at - now).total_seconds())
        raise ServerUnavailableError("pausing after a failed refresh", retry_after=wait)


def _require_pace(token_set: TokenSet) -> None:
    if not pace.room(token_set.issuer):
        raise ServerUnavailableError("this process sends to the issuer as fast as it may", retry_after=1)


def _refresh_or_wait(attempt: Attempt, request: Request | None, *, most: int) -> None:
    dead_owner, deadline = "-", time.monotonic() + configuration().lease_wait_seconds
    while True:
        with closing(spool.Reservation()) as reservation:
            if _claim(attempt, dead_owner=dead_owner, most=most):
                if not _replayed(attempt):
                    _exchange(attempt, request, reservation=reservation)
                return
        left = wait_for_the_winner(attempt.token_set, deadline=deadline)
        if left is None:
            return
        attempt.token_set, dead_owner = left, left.lease_owner or "-"


def _claim(attempt: Attempt, *, dead_owner: str, most: int) -> bool:
    """Take the lease, which also proves that the database can be written. R1.

    Raises:
        ServerUnavailableError: It cannot, so that nothing may be sent.
    """
    token_set, before = attempt.token_set, attempt.token_set.lease_owner
    unknown = owners.unknown_outcomes_of(before) + 1 if before else 0
    attempt.claimed_at, attempt.is_recovery = time.monotonic(), bool(before)
    try:
        attempt.owner = owners.new_owner(unknown_outcomes=unknown)
        return lease_for_refresh(
            token_set,
            owner=attempt.owner,
            seconds=configuration().lease_seconds,
            dead_owner=dead_owner,
            most=most,
        )
    except DatabaseError as error:
        raise ServerUnavailableError(
            f"the database cannot be written: {type(error).__name__}", retry_after=_DATABASE_RETRY_SECONDS
        ) from error


def _replayed(attempt: Attempt) -> bool:
    """Use the answer that an owner before us got and could not store. R4.

    Raises:
        AuthorizationRequiredError: There is none, and the token was sent twice already.
    """
    token_set = attempt.token_set
    kept = spool.answer_for(token_set.pk, newer_than=token_set.generation, search=attempt.is_recovery)
    if kept is not None and store_renewals([kept], replayed_by=attempt.owner):
        return True
    if attempt.is_given_up:
        end(attempt, reason=OUTCOME_LOST)
        return True
    return False


def _exchange(attempt: Attempt, request: Request | None, *, reservation: spool.Reservation) -> None:
    token_set = attempt.token_set
    server = token_set.connection.server
    if not time.monotonic() < attempt.send_before():
        give_lease_back(token_set, lease_owner=attempt.owner)
        raise ResponseTimeoutError("paused for too long after the claim; nothing was sent")
    read = partial(read_answer, attempt)
    pace.note_sent(token_set.issuer)
    try:
        with traced(server, kind=FlowTrace.Kind.REFRESH, connection=token_set.connection, user=attempt.actor) as http:
            request = request or _with_identity(attempt, http=http)
            tokens: TokenResponse = http.redeem(request, read=read, limits=Limits.REFRESH, step="refresh")
            renewal = keep_safe(attempt, tokens, reservation=reservation)
            problem = _stored(attempt, renewal, tokens)
    except FlowError as error:
        failed = error
        persistently(lambda: settle(attempt, failed), seconds=attempt.patience_seconds)
        return
    if problem is not None:
        raise problem
    note_success(token_set, now=attempt.now)


def _stored(attempt: Attempt, renewal: Renewal, tokens: TokenResponse) -> Exception | None:
    """Store before the trace is written: others wait for these tokens. A problem of ours does not belong there."""
    try:
        keep_stored(attempt, renewal, tokens)
    except (FlowError, DatabaseError) as error:
        return error
    attempt.stored()
    return None


def _with_identity(attempt: Attempt, *, http: Egress) -> Request:
    """The first of two requests; the second goes only where its answer still comes within the lease."""
    token_set, attempt.asks_issuer = attempt.token_set, False
    request = request_with_identity(token_set, http=http, now=attempt.now)
    attempt.asks_issuer = True
    if not time.monotonic() < attempt.send_before():
        raise ResponseTimeoutError("the sign-in service took too long to vouch; nothing was sent to the server's own")
    return bound(request, token_set.connection, token_type=token_set.asked_token_type)
