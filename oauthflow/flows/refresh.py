"""Refresh a grant: one request at a time for a connection, in all processes together.

The lease is one conditional UPDATE. Whoever does not get it waits for the winner's row. Only `invalid_grant` ends a
grant, and only if no newer tokens were stored meanwhile; everything else costs a pause.
"""

from __future__ import annotations

import secrets
import time
import uuid
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from typing import TYPE_CHECKING

from connections.models import Connection, FlowTrace, TokenSet
from connections.profiles import profile_of
from connections.services import (
    lease_for_refresh,
    mark_unreadable,
    record_refresh_failure,
    require_reauthorization,
    store_refreshed,
)
from oauthflow.conf import configuration
from oauthflow.egress import Limits
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import (
    AuthorizationRequiredError,
    ClientRefusedError,
    FlowError,
    GrantRefusedError,
    IssuerChangedError,
    NoClientError,
    ResponseTimeoutError,
    SecretUnreadableError,
    TransportError,
)
from oauthflow.protocol.messages import Request
from oauthflow.protocol.retry_after import ServerUnavailableError
from oauthflow.protocol.token_endpoint import TokenResponse, read_token_response, refresh_request

from .attempt import traced
from .register_client import credentials_of, supersede
from .revoke import revoke_upstream

if TYPE_CHECKING:
    from django.contrib.auth.models import User

_LONGEST_PAUSE = timedelta(hours=1)
_POLL_SECONDS = 0.05
_random = secrets.SystemRandom()


def refresh_connection(connection: Connection, *, now: datetime, trigger: str, actor: User | None = None) -> Connection:
    """Renew the tokens of a connection, or wait for whoever is doing it.

    Args:
        connection: The connection; its status is updated in place.
        now: Aware UTC.
        trigger: Why, for the record: use, refused, schedule, request. A person's request is tried even in the pause
            after a failure, and even with a grant that was refused before.
        actor: Who asked for it, None for the system.

    Raises:
        AuthorizationRequiredError: The grant has ended or was never there; a person has to sign in.
        ClientRefusedError: The server does not know us any more; the grant is kept.
        TransportError: The server cannot be reached or answers nonsense; the grant is kept.
        IssuerChangedError: The server moved; nothing was sent.
        SecretUnreadableError: The stored token does not open; nothing was sent.

    Spec: RFC 6749 §6. X-12, X-13.
    """
    token_set = (
        TokenSet.objects.select_related("connection__server", "registration").filter(connection=connection).first()
    )
    if token_set is None or not token_set.refresh_token_sealed:
        raise AuthorizationRequiredError("there is no refresh token", reason=connection.reason or "no_refresh_token")
    _check_worth_trying(token_set, trigger=trigger, now=now)
    try:
        request = _request(token_set, now=now)
    except NoClientError as error:
        _pause(token_set, error, owner=token_set.lease_owner, actor=actor, now=now)
        raise
    owner = str(uuid.uuid4())
    until = now + timedelta(seconds=configuration().lease_seconds)
    if lease_for_refresh(token_set, owner=owner, until=until, now=now):
        _exchange(token_set, request, owner=owner, trigger=trigger, actor=actor, now=now)
    else:
        _wait_for_the_winner(token_set)
    try:
        connection.refresh_from_db()
    except Connection.DoesNotExist:
        raise AuthorizationRequiredError("deleted meanwhile", reason="disconnected") from None
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


def _request(token_set: TokenSet, *, now: datetime) -> Request:
    """Everything is opened before the lease is taken: what cannot be read is never claimed."""
    try:
        return refresh_request(
            token_endpoint=token_set.token_endpoint,
            refresh_token=token_set.refresh_token_sealed.reveal(),
            resource=token_set.resource or None,
            client=credentials_of(
                token_set.connection.server,
                client_id=token_set.client_id,
                auth_method=token_set.auth_method,
                registration=token_set.registration,
            ),
            issuer=token_set.issuer,
            now=now,
        )
    except SecretUnreadableError:
        mark_unreadable(token_set.connection)
        raise


def _exchange(
    token_set: TokenSet, request: Request, *, owner: str, trigger: str, actor: User | None, now: datetime
) -> None:
    connection = token_set.connection
    read = partial(
        read_token_response,
        requested_scope=token_set.scope,
        received_at=now,
        milliseconds=profile_of(connection.server.profile).milliseconds,
    )
    try:
        with traced(connection.server, kind=FlowTrace.Kind.REFRESH, connection=connection, user=actor) as http:
            tokens: TokenResponse = http.redeem(request, read=read, limits=Limits.REFRESH, step="refresh")
    except GrantRefusedError as error:
        if require_reauthorization(connection, reason=error.code, actor=actor, generation=token_set.generation):
            raise AuthorizationRequiredError(error.detail, reason=error.code) from error
        return  # somebody stored newer tokens meanwhile: theirs are good
    except FlowError as error:
        _pause(token_set, error, owner=owner, actor=actor, now=now)
        raise
    if not store_refreshed(token_set, tokens, lease_owner=owner, actor=actor, trigger=trigger, now=now):
        _give_back_unless_replaced(token_set, tokens, actor=actor, now=now)


def _give_back_unless_replaced(
    token_set: TokenSet, tokens: TokenResponse, *, actor: User | None, now: datetime
) -> None:
    """Somebody disconnected while the answer was on its way: what came is revoked, not kept. F23."""
    if TokenSet.objects.filter(pk=token_set.pk).exists():
        return  # newer tokens of the same grant are stored; revoking these might end the grant
    revoke_upstream(
        token_set,
        [("refresh_token", tokens.refresh_token), ("access_token", tokens.access_token)],
        actor=actor,
        now=now,
    )
    raise AuthorizationRequiredError("disconnected meanwhile", reason="disconnected")


def _pause(token_set: TokenSet, error: FlowError, *, owner: str, actor: User | None, now: datetime) -> None:
    """Nothing is lost: the next try comes after a growing pause, or when the server said it wants it."""
    if isinstance(error, ClientRefusedError) and token_set.registration is not None:
        supersede(token_set.registration)  # the next sign-in registers anew; these tokens keep their own client
    first = timedelta(seconds=configuration().refresh_cooldown_seconds)
    pause = min(first * 2 ** min(token_set.refresh_failures, 10), _LONGEST_PAUSE) * _random.uniform(0.5, 1)
    if isinstance(error, ServerUnavailableError) and error.retry_after is not None:
        pause = max(pause, timedelta(seconds=error.retry_after))
    record_refresh_failure(token_set, lease_owner=owner, code=error.code, next_attempt_at=now + pause, actor=actor)


def _wait_for_the_winner(token_set: TokenSet) -> None:
    """Wait until the row changes; the winner's result is ours too."""
    deadline = time.monotonic() + configuration().lease_wait_seconds
    while time.monotonic() < deadline:
        current = TokenSet.objects.select_related("connection").filter(pk=token_set.pk).first()
        if current is None:
            raise AuthorizationRequiredError("disconnected meanwhile", reason="disconnected")
        if current.generation != token_set.generation:
            return
        if not current.lease_owner:
            if current.connection.status == Connection.Status.REAUTH_REQUIRED:
                raise AuthorizationRequiredError("the grant was refused", reason=current.connection.reason)
            raise TransportError("the refresh that was waited for failed", code=Code.TEMPORARILY_UNAVAILABLE)
        time.sleep(_POLL_SECONDS)
    raise ResponseTimeoutError("another refresh of this connection takes too long")
