"""Disconnect: end the grant here at once, then tell the service, now or later."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from connections.models import Connection
from connections.revocations import end_grants
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.codes import Code

from .held_grant import give_up
from .revocation_outbox import tell_at_once

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def revoke_connection(connection: Connection, *, actor: User | None, reason: str, now: datetime) -> bool:
    """End the grant of one connection, then try once to tell its service while the caller waits.

    Here it has ended for every process before anything is sent. What the service does not take now, the worker tells
    it again for a day.

    Returns:
        Whether there is nothing left to tell: the service knows, or cannot be told.

    Spec: RFC 7009 §2.1.
    """
    held = _give_up_what_waits([connection], actor=actor, now=now)
    noted = end_grants([connection], actor=actor, reason=reason or "disconnected", now=now)
    told = [tell_at_once(row, connection=connection, actor=actor, now=now) for row in noted]
    return all(told) and not held


def revoke_connections(connections: Sequence[Connection], *, actor: User | None, reason: str, now: datetime) -> int:
    """End the grants of many connections here; the worker tells their services. No network.

    Returns:
        How many services' grants are still to be revoked there.
    """
    _give_up_what_waits(connections, actor=actor, now=now)
    return len(end_grants(connections, actor=actor, reason=reason or "disconnected", now=now))


def _give_up_what_waits(connections: Sequence[Connection], *, actor: User | None, now: datetime) -> int:
    """Whoever disconnects decides about another account that came back as well; return how many such there were."""
    waiting = AuthorizationRequest.objects.holding_tokens().filter(connection__in=connections)
    failed = AuthorizationRequest.Status.FAILED
    return sum(give_up(request, status=failed, code=Code.ACCOUNT_CHANGED, actor=actor, now=now) for request in waiting)
