"""What a failed refresh means: a pause, trouble with us as a client, or the end of the grant. R5, R8."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Final

from connections.leases import end_lease
from connections.models import TokenSet
from connections.services import record_refresh_failure, require_reauthorization
from oauthflow.conf import configuration
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import (
    AnswerLostError,
    AuthorizationRequiredError,
    ClientRefusedError,
    FlowError,
    GrantRefusedError,
)
from oauthflow.protocol.retry_after import ServerUnavailableError

from ..register_client import supersede
from .attempt import Attempt
from .health import is_held_back, may_end_grant, note_failure

POISON_TRIES: Final = 5
POISON_PAUSE: Final = timedelta(days=1)
QUARANTINED: Final = "refresh_quarantined"
OUTCOME_LOST: Final = "refresh_outcome_lost"
_LONGEST_PAUSE: Final = timedelta(hours=1)
_random: Final = secrets.SystemRandom()


def settle(attempt: Attempt, error: FlowError) -> None:
    """Write down how an attempt failed.

    Returns normally only where newer tokens were stored meanwhile, so that nothing failed after all.

    Raises:
        AuthorizationRequiredError: The grant has ended.
        FlowError: The error itself, in all other cases.
    """
    if attempt.asks_issuer:
        note_failure(attempt.token_set, error, now=attempt.now)
    if _is_worth_another(attempt, error):
        end_lease(attempt.token_set, lease_owner=attempt.owner)
        raise error
    if not isinstance(error, GrantRefusedError) or _is_doubtful(attempt):
        pause(attempt, error)
        raise error
    end(attempt, reason=OUTCOME_LOST if attempt.is_recovery else error.code, cause=error)


def quarantine(token_set: TokenSet, *, now: datetime) -> None:
    """A row that we ourselves fail at is tried less and less, and after five tries shown as such. F24.

    One that was deleted meanwhile is nobody's trouble any more.
    """
    owner = TokenSet.objects.filter(pk=token_set.pk).values_list("lease_owner", flat=True).first()
    if owner is None:
        return
    is_hopeless = token_set.refresh_failures + 1 >= POISON_TRIES
    wait = POISON_PAUSE if is_hopeless else _pause_after(token_set)
    record_refresh_failure(
        token_set,
        lease_owner=owner,
        code=QUARANTINED if is_hopeless else Code.SERVER_ERROR,
        next_attempt_at=now + wait,
        actor=None,
    )


def _is_worth_another(attempt: Attempt, error: FlowError) -> bool:
    """Whether the token is sent once more within seconds, as after a death: the server may have replaced it. R4."""
    is_first_loss = isinstance(error, AnswerLostError) and attempt.asks_issuer and not attempt.is_recovery
    return is_first_loss and not is_held_back(attempt.token_set, now=attempt.now)


def _is_doubtful(attempt: Attempt) -> bool:
    """Whether the server refuses so many that it is more likely wrong than right. A lost race is no refusal."""
    current = TokenSet.objects.filter(pk=attempt.token_set.pk, generation=attempt.token_set.generation)
    is_said_by_issuer = attempt.asks_issuer and not attempt.is_recovery
    return is_said_by_issuer and current.exists() and not may_end_grant(attempt.token_set, now=attempt.now)


def end(attempt: Attempt, *, reason: str, cause: FlowError | None = None) -> None:
    """Mark the grant as over, unless newer tokens were stored meanwhile.

    Raises:
        AuthorizationRequiredError: It is over.
    """
    token_set = attempt.token_set
    marked = require_reauthorization(
        token_set.connection, reason=reason, actor=attempt.actor, generation=token_set.generation
    )
    if marked:
        raise AuthorizationRequiredError(cause.detail if cause else reason, reason=reason) from cause


def pause(attempt: Attempt, error: FlowError) -> None:
    """Nothing is lost: the next try comes after a growing pause, or when the server said it wants it."""
    token_set = attempt.token_set
    if isinstance(error, ClientRefusedError) and token_set.registration is not None:
        supersede(token_set.registration)  # the next sign-in registers anew; these tokens keep their own client
    wait = _pause_after(token_set)
    if isinstance(error, ServerUnavailableError) and error.retry_after is not None:
        wait = max(wait, timedelta(seconds=error.retry_after))
    record_refresh_failure(
        token_set, lease_owner=attempt.owner, code=error.code, next_attempt_at=attempt.now + wait, actor=attempt.actor
    )


def _pause_after(token_set: TokenSet) -> timedelta:
    """Between the shortest pause and a longest one that doubles each time, by lot: who failed together comes apart."""
    shortest = timedelta(seconds=configuration().refresh_cooldown_seconds)
    longest: timedelta = min(shortest * 2 ** min(token_set.refresh_failures + 1, 10), _LONGEST_PAUSE)
    return shortest + max(longest - shortest, timedelta()) * _random.random()
