"""Delete what is over: codes, ended families, revocations that no token outlives, assertions nobody can use again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q

from connections.lock_order import lock_by_key

from ..models import AuthorizationCode, Revocation, TokenFamily, UsedAssertion

# As long as a code is here, somebody who presents it again ends what came of it.
_CODES_KEPT: Final = timedelta(days=1)
# As long as an ended family is here, its tokens are known as such; people see what was ended, and why.
_FAMILIES_KEPT: Final = timedelta(days=30)
# Longer than the widest window in which an answer may be given again.
_SUCCESSORS_KEPT: Final = timedelta(minutes=5)


def purge_tokens(*, now: datetime) -> int:
    """Delete it, and forget answers that nobody may have again. Return how many rows went."""
    old = Q(ended_at__lt=now - _FAMILIES_KEPT) | Q(expires_at__lt=now - _FAMILIES_KEPT)
    never_redeemed = Q(refresh_hash="", is_refreshable=True, code__used_at=None, code__expires_at__lt=now - _CODES_KEPT)
    families = TokenFamily.objects.filter(old | never_redeemed)
    answered = TokenFamily.objects.filter(rotated_at__lt=now - _SUCCESSORS_KEPT).exclude(successor_sealed="")
    with transaction.atomic():
        lock_by_key(answered)
        answered.update(successor_sealed="")
    with transaction.atomic():
        lock_by_key(families)
        gone = families.delete()[0]
    over = (
        AuthorizationCode.objects.filter(expires_at__lt=now - _CODES_KEPT, used_at__isnull=False),
        Revocation.objects.filter(until__lt=now),
        UsedAssertion.objects.filter(expires_at__lt=now),
    )
    return gone + sum(rows.delete()[0] for rows in over)
