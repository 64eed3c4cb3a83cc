"""A usable access token for a connection, refreshed when it is near its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import User

from connections.database_time import by_database
from connections.last_use import note_use
from connections.models import Connection, McpServer, TokenSet
from connections.services import mark, mark_unreadable, require_reauthorization
from oauthflow.conf import configuration
from oauthflow.protocol.errors import (
    AuthorizationRequiredError,
    FlowError,
    GrantRefusedError,
    InvalidRequestError,
    IssuerChangedError,
    SecretUnreadableError,
)
from oauthflow.protocol.secret import Secret

from .connect_unattended import connect_unattended
from .deactivate import DEACTIVATED
from .refresh import refresh_connection


@dataclass(frozen=True, slots=True)
class UsableToken:
    """An access token that may be sent to its resource now. `expires_at` is aware UTC, None where nobody knows."""

    access_token: Secret
    token_type: str
    expires_at: datetime | None
    scope: str
    resource: str


def usable_access_token(connection: Connection, *, now: datetime, refused: Secret | None = None) -> UsableToken:
    """Return a token that should work, refreshing first where it is near its end.

    Args:
        connection: An OAuth connection.
        now: Aware UTC.
        refused: An access token that the server has just refused: it is not given out again.

    Raises:
        AuthorizationRequiredError: Only a person can help; `reason` says why.
        GrantRefusedError: The same for a server at which nobody can sign in: somebody has to connect it again.
        IssuerChangedError: The server moved, and nobody has approved that yet.
        SecretUnreadableError: The stored token does not open; nothing was sent or changed.
        TransportError: The token is over and its server cannot be reached; the grant is kept.

    A token that still works is given out although refreshing it fails. R7.
    """
    if connection.server.auth_type != McpServer.AuthType.OAUTH:
        raise InvalidRequestError("this server does not use OAuth")
    token_set = _obtained(connection, now=now)
    now = by_database(now)
    access_token = _open(connection, token_set)
    # Empty: a grant without a person that nobody has been given yet.
    is_refused = not access_token or (refused is not None and refused == access_token)
    if not is_refused and not is_due(token_set, now=now):
        return _given_out(connection, token_set, access_token, now=now)
    still_works = not is_refused and (token_set.expires_at is None or token_set.expires_at > now)
    if not token_set.is_renewable:
        if still_works:
            return _given_out(connection, token_set, access_token, now=now)
        if connection.status != Connection.Status.REAUTH_REQUIRED:
            require_reauthorization(connection, reason="no_refresh_token", generation=token_set.generation)
        raise AuthorizationRequiredError("the token is over and cannot be refreshed", reason="no_refresh_token")
    if still_works and token_set.next_attempt_at is not None and token_set.next_attempt_at > now:
        return _given_out(connection, token_set, access_token, now=now)
    if connection.status == Connection.Status.REAUTH_REQUIRED and still_works:
        return _given_out(connection, token_set, access_token, now=now)
    try:
        trigger = "refused" if is_refused and access_token else "use"
        refresh_connection(connection, now=now, trigger=trigger, generation=token_set.generation)
    except FlowError as error:
        if still_works and not isinstance(error, SecretUnreadableError | IssuerChangedError):
            return _given_out(connection, token_set, access_token, now=now)
        raise
    renewed = _stored(connection)
    return _given_out(connection, renewed, _open(connection, renewed), now=now)


def is_due(token_set: TokenSet, *, now: datetime) -> bool:
    """Whether a token should be refreshed before use."""
    moment = due_at(obtained_at=token_set.obtained_at, expires_at=token_set.expires_at)
    return moment is not None and moment <= now


def due_at(*, obtained_at: datetime, expires_at: datetime | None) -> datetime | None:
    """Return when a token is due: 300 s before its end, at half of a life under ten minutes; None: never."""
    if expires_at is None:
        return None
    life = expires_at - obtained_at
    if life < timedelta(seconds=configuration().short_life_seconds):
        return expires_at - life / 2
    return expires_at - timedelta(seconds=configuration().refresh_margin_seconds)


def _obtained(connection: Connection, *, now: datetime) -> TokenSet:
    """Read the tokens, getting the first ones where that needs no person."""
    try:
        return _stored(connection)
    except AuthorizationRequiredError as error:
        if not connection.server.is_unattended:
            raise
        if connection.status == Connection.Status.PENDING:
            connect_unattended(connection, actor=None, now=now, trigger="use")
            return _stored(connection)
        if connection.server.has_sign_in:
            raise
        raise GrantRefusedError(f"{error.detail}; connect it again once the cause is gone") from error


def _stored(connection: Connection) -> TokenSet:
    """Read the tokens, and the state as it is now: another process may have changed it since."""
    connection.refresh_from_db(fields=("status", "reason"))
    token_set = connection.token_set
    if connection.user_id is not None and User.objects.filter(pk=connection.user_id, is_active=False).exists():
        raise AuthorizationRequiredError("its owner is deactivated", reason=DEACTIVATED)
    if connection.status == Connection.Status.ISSUER_CHANGED:
        raise IssuerChangedError("waits for an administrator")
    if token_set is None:
        reason = connection.reason or ("disconnected" if connection.status == "revoked" else "not_connected")
        raise AuthorizationRequiredError("nothing is stored", reason=reason)
    return token_set


def _open(connection: Connection, token_set: TokenSet) -> Secret:
    try:
        return token_set.access_token_sealed.reveal()
    except SecretUnreadableError:
        mark_unreadable(connection)
        raise


def _given_out(connection: Connection, token_set: TokenSet, access_token: Secret, *, now: datetime) -> UsableToken:
    if connection.status == Connection.Status.KEY_UNAVAILABLE:  # the key is back
        mark(connection, status=Connection.Status.ACTIVE, reason="")
    note_use(connection, now=now)
    return UsableToken(access_token, token_set.token_type, token_set.expires_at, token_set.scope, token_set.resource)
