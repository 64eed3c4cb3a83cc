"""Use the other account of the service that came back, or keep the one that was used before. S15."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import transaction

from connections.models import Connection
from connections.services import lock_for_grant, store_grant
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import IssuerChangedError, StateError

from .held_grant import give_up, held_by, take, terms_of

if TYPE_CHECKING:
    from django.contrib.auth.models import User

Status = AuthorizationRequest.Status


def decide_account(request: AuthorizationRequest, *, user: User, use_new: bool, now: datetime) -> AuthorizationRequest:
    """Take the decision of the person who signed in; it is taken once.

    Args:
        request: One that waits for this decision, with what it holds.
        user: Who decides; must be who started.
        use_new: Replace the old account's tokens by the new one's; else the new ones are revoked and forgotten.
        now: Aware UTC.

    Returns:
        The request: completed, or failed with `account_changed`.

    Raises:
        StateError: It is another person's, does not wait for a decision, was decided, or is late. Nothing changed.
        IssuerChangedError: The connection has another issuer by now. Nothing changed.
        SecretUnreadableError: What waits does not open. Nothing changed.
    """
    if request.user_id != user.pk:
        raise StateError("no request of this person waits for a decision")
    if not request.awaits_account_at(now):
        raise _over(request, now=now)
    if use_new:
        _use(request, user=user, now=now)
    elif not give_up(request, status=Status.FAILED, code=Code.ACCOUNT_CHANGED, actor=user, now=now):
        raise _over(request, now=now)
    return request


def _use(request: AuthorizationRequest, *, user: User, now: datetime) -> None:
    held = held_by(request)
    with transaction.atomic():
        # Nobody else finishes a sign-in for this connection meanwhile.
        is_there = Connection.objects.filter(pk=request.connection_id).exists()
        if not is_there or not lock_for_grant(request.connection):
            raise _over(request, now=now)
        connection = request.connection
        connection.refresh_from_db()
        if connection.issuer != request.issuer or connection.status == Connection.Status.ISSUER_CHANGED:
            raise IssuerChangedError("the connection has another issuer by now")
        if not take(request, status=Status.COMPLETED, code="", now=now):
            raise _over(request, now=now)
        store_grant(
            connection,
            held.tokens,
            terms=terms_of(request),
            actor=user,
            now=held.received_at,
            reason=Code.ACCOUNT_CHANGED,
        )


def _over(request: AuthorizationRequest, *, now: datetime) -> StateError:
    current = AuthorizationRequest.objects.filter(pk=request.pk).first()
    if current is not None and current.status_at(now) == Status.EXPIRED:
        return StateError("the decision comes late", code=Code.STATE_EXPIRED)
    return StateError("there is nothing to decide any more", code=Code.STATE_USED)
