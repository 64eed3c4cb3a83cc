"""After a death: apply what the dead had kept, then refresh what they left behind. R4."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from django.db.models import Q
from django.db.models.functions import Now

from connections.models import Connection, TokenSet
from oauthflow.protocol.grant_types import GrantType

from . import owners
from .batch import Outcome, refresh_many
from .replay import replay_spool


def recover_abandoned(*, now: datetime, go_on: Callable[[], bool] = lambda: True) -> Outcome:
    """Take over from owners that died or froze; cheap where there are none. `go_on`: as in `refresh_many`."""
    leased = TokenSet.objects.filter(lease_expires_at__isnull=False)
    held = set(leased.values_list("lease_owner", flat=True))
    if not held:
        return Outcome()
    dead = owners.dead_among(held)
    ended = Q(lease_expires_at__lte=Now()) | Q(lease_owner__in=dead)
    live = leased.filter(connection__status__in=Connection.WORKING).exclude(connection__user__is_active=False)
    left = live.filter(ended)
    if not left.exists():
        return Outcome()
    replay_spool()
    # Those for which the company's sign-in vouches are taken over when they are due.
    rows = left.exclude(grant_type=GrantType.TOKEN_EXCHANGE).order_by("expires_at").values_list("pk", "issuer")
    return refresh_many(rows, now=now, dead_owners=frozenset(dead), go_on=go_on)
