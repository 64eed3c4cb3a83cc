"""Once a week, for those who chose it: what needs them, and what ends soon."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.urls import reverse

from connections.models import ClientRegistration, Connection, TokenSet
from oauthflow.models import MailPreference
from oauthflow.models.notice import next_digest_after

from .letter import Item, send_letter
from .recipients import MAY_CHANGE_SERVERS, MAY_REPAIR_SHARED

ACCESS_ENDS_WITHIN: Final = timedelta(days=14)
SECRET_ENDS_WITHIN: Final = timedelta(days=30)
_TRY_AGAIN: Final = timedelta(hours=1)
_Status = Connection.Status
_NEEDS_SOMEBODY: Final = {
    _Status.REAUTH_REQUIRED: "The connection has ended. Sign in again to use it.",
    _Status.KEY_UNAVAILABLE: "The stored credential cannot be read. Reconnect, or ask an administrator.",
    _Status.ISSUER_CHANGED: "The server names another sign-in service; an administrator has to approve it.",
}


def send_digests(*, now: datetime) -> int:
    """Send the digests that are due; return how many letters went out. Who has nothing to be told gets none."""
    if not settings.EMAIL_ENABLED:
        return 0
    due = MailPreference.objects.filter(digest_due_at__lte=now, user__is_active=True).exclude(user__email="")
    return sum(_send(preference, now=now) for preference in due.select_related("user"))


def digest_of(user: User, *, now: datetime) -> Iterator[Item]:
    """Yield what a person has to do or to expect."""
    for connection in _looked_after_by(user).filter(status__in=_NEEDS_SOMEBODY):
        yield _item(connection, _NEEDS_SOMEBODY[_Status(connection.status)])
    working = _looked_after_by(user).filter(status__in=(_Status.ACTIVE, _Status.DEGRADED))
    ending = TokenSet.objects.ending_for_good(after=now).filter(connection__in=working)
    for tokens in ending.filter(last_end__lte=now + ACCESS_ENDS_WITHIN).select_related("connection__server"):
        yield _item(tokens.connection, f"The access ends on {tokens.last_end:%d %B %Y} and cannot be renewed.")
    if user.has_perm(MAY_CHANGE_SERVERS):
        yield from _ending_secrets(now=now)


def _send(preference: MailPreference, *, now: datetime) -> bool:
    mine = MailPreference.objects.filter(pk=preference.pk, digest_due_at=preference.digest_due_at)
    if not mine.update(digest_due_at=next_digest_after(now)):
        return False  # another worker has it
    items = list(digest_of(preference.user, now=now))
    if not items:
        return False
    was_sent = send_letter(
        preference.user, subject="your week", lead="What needs you, and what ends soon.", items=items
    )
    if not was_sent:
        still = MailPreference.objects.filter(pk=preference.pk, digest_due_at=next_digest_after(now))
        still.update(digest_due_at=now + _TRY_AGAIN)
    return was_sent


def _looked_after_by(user: User) -> QuerySet[Connection]:
    shared = Q(user__isnull=True) if user.has_perm(MAY_REPAIR_SHARED) else Q(pk__in=[])
    return Connection.objects.visible_to(user).filter(Q(user=user) | shared)


def _item(connection: Connection, sentence: str) -> Item:
    heading = " · ".join(filter(None, (connection.server.name, connection.label)))
    return Item(heading, sentence, f"{settings.PUBLIC_URL}/connections/{connection.pk}")


def _ending_secrets(*, now: datetime) -> Iterator[Item]:
    ending = ClientRegistration.objects.filter(
        status=ClientRegistration.Status.ACTIVE, client_secret_expires_at__range=(now, now + SECRET_ENDS_WITHIN)
    )
    for registration in ending.select_related("server"):
        page = reverse("admin:connections_mcpserver_change", args=(registration.server_id,))
        sentence = f"The client secret of this site there ends on {registration.client_secret_expires_at:%d %B %Y}."
        yield Item(registration.server.name, sentence, settings.PUBLIC_URL + page)
