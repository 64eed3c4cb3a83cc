"""Keep an answer: spool, then database, however long that is away. R3, R5."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar
from uuid import UUID

import structlog
from django.db import DatabaseError, InterfaceError, connection

from connections.models import TokenSet
from connections.renewals import Renewal, seal_renewal, store_renewals
from connections.revocations import Granted, note_tokens
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import AuthorizationRequiredError, TransportError
from oauthflow.protocol.token_endpoint import TokenResponse

from .attempt import Attempt
from .spool import Reservation, SpoolError, forget

Result = TypeVar("Result")

_RETRY_SECONDS: Final = 0.5
_log: Final = structlog.get_logger(__name__)


def keep_safe(attempt: Attempt, tokens: TokenResponse, *, reservation: Reservation) -> Renewal:
    """Seal what came and put it on the disk, before anything else."""
    renewal = seal_renewal(
        attempt.token_set,
        tokens,
        lease_owner=attempt.owner,
        actor=attempt.actor,
        trigger=attempt.trigger,
        now=attempt.now,
    )
    spool([renewal], put=reservation.keep)
    return renewal


def keep_stored(attempt: Attempt, renewal: Renewal, tokens: TokenResponse) -> None:
    """Write it to the row, as long as nobody took the grant away meanwhile.

    Raises:
        AuthorizationRequiredError: Somebody disconnected; the new tokens were revoked.
        TransportError: The database is away; the answer is safe in the spool.
    """
    if not commit([renewal], seconds=attempt.patience_seconds):
        keep_or_give_back(attempt, renewal, tokens)


def spool(renewals: Sequence[Renewal], *, put: Callable[[Sequence[Renewal]], None]) -> None:
    """Put answers on the disk; where that fails after all, the database is the only place left, so go on."""
    try:
        put(renewals)
    except (OSError, SpoolError) as error:
        _log.error("refresh.spool_failed", exception=type(error).__name__, count=len(renewals))


def commit(renewals: Sequence[Renewal], *, seconds: float) -> set[UUID]:
    """Write answers to their rows; return the ids of those written.

    Raises:
        TransportError: The database stayed away; whoever finds the spool writes them later.
    """
    return persistently(lambda: store_renewals(renewals), seconds=seconds)


def persistently(write: Callable[[], Result], *, seconds: float) -> Result:
    """Write an outcome, again and again while the database is away.

    Raises:
        TransportError: It stayed away.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return write()
        except (DatabaseError, InterfaceError) as error:
            if connection.in_atomic_block or time.monotonic() > until:
                raise TransportError(f"not stored yet: {type(error).__name__}", code=Code.SERVER_ERROR) from error
            _log.warning("refresh.outcome_not_stored_yet", exception=type(error).__name__)
            connection.close()
            time.sleep(_RETRY_SECONDS)


def keep_or_give_back(attempt: Attempt, renewal: Renewal, tokens: TokenResponse) -> None:
    """The lease is not ours any more: somebody took over, or disconnected while the answer was on its way. F03, F23.

    Whoever took over sent a token that this answer has replaced. Where that was refused, or is under way, this answer
    may be the only good one; as long as nothing newer is stored, it stays in the spool until it may be written.

    Raises:
        AuthorizationRequiredError: Somebody disconnected; what came is noted to be revoked.
    """
    token_set = attempt.token_set
    left = TokenSet.objects.filter(pk=token_set.pk)
    if store_renewals([renewal], replayed_by="") or left.filter(generation=token_set.generation):
        return
    if left.exists():
        forget(renewal)
        return  # newer tokens of the same grant are stored; revoking these might end the grant
    both = (tokens.refresh_token, tokens.access_token)
    note_tokens(
        Granted.of(token_set), connection=token_set.connection, tokens=both, reason="disconnected", now=attempt.now
    )
    forget(renewal)
    raise AuthorizationRequiredError("disconnected meanwhile", reason="disconnected")
