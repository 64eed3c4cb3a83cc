"""What a failed refresh means: a pause, trouble with us as a client, or the end of the grant. R5, R8."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Final

from connections.services import record_refresh_failure, require_reauthorization
from oauthflow.conf import configuration
from oauthflow.protocol.errors import (
    AuthorizationRequiredError,
    ClientRefusedError,
    FlowError,
    GrantRefusedError,
)
from oauthflow.protocol.retry_after import ServerUnavailableError

from ..register_client import supersede
from .attempt import Attempt

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
    if not isinstance(error, GrantRefusedError):
        pause(attempt, error)
        raise error
    end(attempt, reason=OUTCOME_LOST if attempt.is_recovery else error.code, cause=error)


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
    first = timedelta(seconds=configuration().refresh_cooldown_seconds)
    wait = min(first * 2 ** min(token_set.refresh_failures, 10), _LONGEST_PAUSE) * _random.uniform(0.5, 1)
    if isinstance(error, ServerUnavailableError) and error.retry_after is not None:
        wait = max(wait, timedelta(seconds=error.retry_after))
    record_refresh_failure(
        token_set, lease_owner=attempt.owner, code=error.code, next_attempt_at=attempt.now + wait, actor=attempt.actor
    )
