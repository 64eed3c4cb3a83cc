"""A client reports that an MCP server refused its token: say whether to retry, to authorize, or to give up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from connections.database_time import by_database
from connections.models import Connection, TokenSet
from oauthflow.conf import configuration
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.bearer import BearerChallenge, bearer_challenge
from oauthflow.protocol.errors import AuthorizationRequiredError, FlowError
from oauthflow.protocol.scopes import parse_scope

from .refresh import refresh_connection
from .start_authorization import StartedAuthorization, start_authorization

if TYPE_CHECKING:
    from django.contrib.auth.models import User

_REMEMBERED = timedelta(minutes=10)
_JUST_OBTAINED = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class ChallengeAnswer:
    """What the client should do; `started` where a person has to authorize."""

    action: Literal["retry", "authorize", "give_up"]
    started: StartedAuthorization | None = None


def report_challenge(
    connection: Connection, *, user: User, status: int, www_authenticate: str, now: datetime
) -> ChallengeAnswer:
    """Answer a 401 or 403 that a client met. Cached metadata is not trusted.

    Raises:
        FlowError: Discovery or registration failed, or the server moved (IssuerChangedError).

    Spec: RFC 6750 §3.1. S-02, S-07 to S-09, D-15.
    """
    # Where the server's metadata is, a client only claims: another address would count for everybody. U11.
    challenge = replace(bearer_challenge(www_authenticate) or BearerChallenge(), resource_metadata=None)
    if status == 401:
        if challenge.error == "use_dpop_nonce" or _refreshed(connection, now=now):
            return ChallengeAnswer("retry")
    elif not _asks_for_more_scope(connection, challenge, status=status):
        return ChallengeAnswer("give_up")
    if not connection.server.has_sign_in:
        return ChallengeAnswer("give_up")
    if is_asked_in_vain(connection, challenge, now=now):
        return ChallengeAnswer("give_up")
    started = start_authorization(connection, user=user, now=now, challenge=challenge, fresh=True)
    return ChallengeAnswer("authorize", started)


def _refreshed(connection: Connection, *, now: datetime) -> bool:
    """Try a refresh, but not with a token that is fresh already: that would go round in circles."""
    token_set: TokenSet | None = connection.token_set
    now = by_database(now)
    if token_set is None or not token_set.is_renewable or token_set.obtained_at > now - _JUST_OBTAINED:
        return False
    try:
        refresh_connection(connection, now=now, trigger="refused")
    except AuthorizationRequiredError:
        return False
    except FlowError as error:
        if error.retryable:
            raise
        return False
    return True


def _asks_for_more_scope(connection: Connection, challenge: BearerChallenge, *, status: int) -> bool:
    if status != 403 or challenge.error != "insufficient_scope" or not challenge.scope:
        return False
    return bool(parse_scope(challenge.scope))


def is_asked_in_vain(connection: Connection, challenge: BearerChallenge, *, now: datetime) -> bool:
    """Whether a person has agreed to all of it often enough just now, and the server refuses all the same. S-09."""
    agreed = AuthorizationRequest.objects.filter(
        connection=connection,
        status=AuthorizationRequest.Status.COMPLETED,
        initiated_at__gt=now - _REMEMBERED,
    )
    challenged = parse_scope(challenge.scope or "")
    agreements = sum(challenged <= parse_scope(scope) for scope in agreed.values_list("scope", flat=True))
    return agreements >= configuration().step_up_limit
