"""What becomes of the grants of people who were deactivated. Z06.

Nothing of theirs is served from the moment of the deactivation on, whoever wrote it and however: every way in asks
whether the person is active. Here the rest is tidied up: their connections are disconnected and revoked at their
services, their API tokens end. A site that only means to suspend people switches that off.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.contrib.auth.models import User

from connections.models import ApiToken, Connection
from oauthflow.conf import configuration

from .revoke import revoke_connections

DEACTIVATED: Final = "user_deactivated"
_AT_A_TIME: Final = 500


def end_deactivated(*, now: datetime, person: User | None = None, actor: User | None = None) -> int:
    """End what deactivated people still hold, unless the site only suspends them; return how many connections ended.

    Args:
        now: Aware UTC.
        person: Only this one, if deactivated.
        actor: Who asked for it, None for the system.
    """
    if not configuration().revoke_deactivated:
        return 0
    people = (
        User.objects.filter(is_active=False) if person is None else User.objects.filter(pk=person.pk, is_active=False)
    )
    ApiToken.objects.filter(user__in=people, revoked_at__isnull=True).update(revoked_at=now)
    held = Connection.objects.filter(user__in=people, tokens__isnull=False).select_related("server")
    ended = 0
    while page := list(held[:_AT_A_TIME]):
        revoke_connections(page, actor=actor, reason=DEACTIVATED, now=now)
        ended += len(page)
    return ended
