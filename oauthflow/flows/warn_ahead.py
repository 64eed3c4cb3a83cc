"""Tell ahead what will end and cannot be renewed without somebody: access, and client secrets. Each occasion once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from connections.models import ClientRegistration, Connection, TokenSet
from oauthflow.events import emit
from oauthflow.models import EventType, GivenWarning

BEFORE_SECRET_ENDS: Final = (timedelta(days=30), timedelta(days=7), timedelta(days=1))
BEFORE_ACCESS_ENDS: Final = (timedelta(days=7), timedelta(days=1), timedelta(hours=1))
"""Occasions. For access only those count that leave at least half of its life unwarned."""


def warn_ahead(*, now: datetime) -> int:
    """Emit the warnings whose occasion has come; return how many."""
    GivenWarning.objects.filter(ends_at__lte=now).delete()
    return _warn_of_access(now=now) + _warn_of_secrets(now=now)


def occasion(ends_at: datetime, occasions: Iterable[timedelta], *, now: datetime) -> timedelta | None:
    """Return the latest occasion that has come: the shortest that is no shorter than what is left."""
    return min((before for before in occasions if ends_at - now <= before), default=None)


def _warn_of_access(*, now: datetime) -> int:
    ending = TokenSet.objects.ending_for_good(after=now).filter(
        last_end__lte=now + max(BEFORE_ACCESS_ENDS), connection__status__in=Connection.WORKING
    )
    count = 0
    for tokens in ending.select_related("connection__server"):
        ends_at = tokens.last_end
        fitting = [before for before in BEFORE_ACCESS_ENDS if before * 2 <= ends_at - tokens.last_end_known_since]
        before = occasion(ends_at, fitting, now=now)
        if before is not None:
            said = f"The access ends on {_moment(ends_at)} and cannot be renewed. Sign in again before."
            if tokens.renews_until:
                said = f"The access renews itself until {_moment(ends_at)} and then ends. Sign in again before."
            key = f"access {tokens.connection_id} {ends_at.isoformat()} {before}"
            count += _warn(EventType.TOKEN_EXPIRING_SOON, [tokens.connection], said, key=key, ends_at=ends_at)
    return count


def _warn_of_secrets(*, now: datetime) -> int:
    ending = ClientRegistration.objects.filter(
        status=ClientRegistration.Status.ACTIVE,
        client_secret_expires_at__gt=now,
        client_secret_expires_at__lte=now + max(BEFORE_SECRET_ENDS),
    )
    count = 0
    for registration in ending:
        ends_at = registration.client_secret_expires_at
        before = None if ends_at is None else occasion(ends_at, BEFORE_SECRET_ENDS, now=now)
        if ends_at is not None and before is not None:
            said = f"The client secret of this site ends on {_moment(ends_at)}. Reset the registration before."
            using = Connection.objects.filter(tokens__registration=registration, status__in=Connection.WORKING)
            key = f"secret {registration.pk} {ends_at.isoformat()} {before}"
            concerned = list(using.select_related("server"))
            count += _warn(EventType.CLIENT_SECRET_EXPIRING, concerned, said, key=key, ends_at=ends_at)
    return count


def _warn(event_type: EventType, connections: Sequence[Connection], said: str, *, key: str, ends_at: datetime) -> int:
    """Tell all concerned in one transaction with the note that they were told."""
    if not connections:
        return 0
    with transaction.atomic():
        _, is_new = GivenWarning.objects.get_or_create(key=key, defaults={"ends_at": ends_at})
        if not is_new:
            return 0
        for connection in connections:
            emit(event_type, connection, message=said)
    return len(connections)


def _moment(at: datetime) -> str:
    return f"{at:%d %B %Y at %H:%M} UTC"
