"""What an administrator decides about a sign-in service that is held back: to believe its refusals, or to try it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import transaction

from audit.events import AuditEvent
from audit.record import record
from connections.lock_order import lock_by_key
from connections.models import Connection, McpServer, TokenSet
from oauthflow.models import IssuerHealth
from oauthflow.protocol.codes import Code

from .refresh.health import GUARD

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.db.models import QuerySet


def doubted(issuer: str) -> QuerySet[Connection]:
    """Return the connections that were refused and are kept, because everybody is refused there."""
    return Connection.objects.filter(
        issuer=issuer, status=Connection.Status.DEGRADED, reason=Code.INVALID_GRANT
    ).select_related("server", "user")


def believe_refusals(found: IssuerHealth, *, actor: User, now: datetime) -> bool:
    """Let every refusal of this issuer end its grant for a day; say whether it was guarded. F15.

    Those that were refused are tried again at once: who is refused then has to sign in.
    """
    with transaction.atomic():
        guarded = IssuerHealth.objects.guarded(now=now).filter(pk=found.pk)
        if not guarded.update(guarded_until=None, believed_until=now + GUARD):
            return False
        refused = TokenSet.objects.filter(connection__in=doubted(found.issuer))
        lock_by_key(refused)
        refused.update(next_attempt_at=None)
        _record(found, actor=actor, outcome="refusals believed")
    return True


def try_now(found: IssuerHealth, *, actor: User, now: datetime) -> bool:
    """Let one request try an issuer at once; say whether any was held back. R6."""
    with transaction.atomic():
        held_back = IssuerHealth.objects.filter(pk=found.pk, paused_until__gt=now)
        if not held_back.update(paused_until=now):
            return False
        waiting = TokenSet.objects.filter(issuer=found.issuer, next_attempt_at__gt=now)
        if found.client_id:
            waiting = waiting.filter(client_id=found.client_id)
        first = waiting.order_by("next_attempt_at").values("pk")[:1]
        TokenSet.objects.filter(pk__in=list(first.values_list("pk", flat=True))).update(next_attempt_at=None)
        _record(found, actor=actor, outcome="tried now")
    return True


def _record(found: IssuerHealth, *, actor: User, outcome: str) -> None:
    """For each server that people use with it."""
    slugs = McpServer.objects.filter(connections__issuer=found.issuer).order_by("slug").values_list("slug", flat=True)
    for slug in slugs.distinct():
        record(
            AuditEvent.SERVER_CHANGED,
            actor=actor,
            server=slug,
            client=found.client_id,
            reason=outcome,
            details={"issuer": found.issuer, "outcome": outcome},
        )
