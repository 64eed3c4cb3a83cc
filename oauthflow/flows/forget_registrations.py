"""Give up registrations that nothing needs any more, here and, where the service lets us, there. RFC 7592 §2.3.

In two steps, so that a sign-in that has just begun with a registration never loses it: one that nobody is connected by
is first superseded, and deleted a while later if nothing needs it then. Whoever connects after that registers anew.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q, QuerySet

from connections.models import ClientRegistration, McpServer
from connections.models.client_registration import ClientRegistrationQuerySet
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.errors import InvalidRequestError

from .register_client import lock_registrations

UNUSED_FOR: Final = timedelta(hours=1)
REST: Final = timedelta(minutes=10)


def forget_registrations(*, now: datetime) -> int:
    """Supersede what is unused, delete what has been superseded for a while; return how many were deleted."""
    _unused().filter(created_at__lte=now - UNUSED_FOR).supersede(now=now)
    rested = Q(superseded_at__isnull=True) | Q(superseded_at__lte=now - REST)
    over = _unused().filter(rested, status=ClientRegistration.Status.SUPERSEDED)
    servers = McpServer.objects.filter(pk__in=over.values("server"))
    return sum(_forget(server, over) for server in servers)


def _forget(server: McpServer, over: QuerySet[ClientRegistration]) -> int:
    with suppress(InvalidRequestError), transaction.atomic():
        lock_registrations(server)
        # What deletes them notes them for their service.
        return ClientRegistration.objects.filter(pk__in=over.filter(server=server).values("pk")).delete()[0]
    return 0


def _unused() -> ClientRegistrationQuerySet:
    pending = AuthorizationRequest.objects.filter(
        status=AuthorizationRequest.Status.PENDING, registration__isnull=False
    )
    return ClientRegistration.objects.filter(token_sets__isnull=True).exclude(pk__in=pending.values("registration"))
