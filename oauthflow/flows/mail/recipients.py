"""Whom an event concerns: the owner of the connection, or those who can repair what is shared."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.contrib.auth.models import User

from connections.models import Connection
from oauthflow.models import Event, EventType, MailPreference, Webhook
from oauthflow.models.webhook import SITE_WIDE_PERMISSION

MAY_REPAIR_SHARED: Final = "connections.manage_shared_connection"
MAY_CHANGE_SERVERS: Final = "connections.change_mcpserver"
MAY_APPROVE: Final = "connections.approve_issuer_change"
_BACKEND: Final = "django.contrib.auth.backends.ModelBackend"
_OF_ADMINISTRATORS: Final = {
    EventType.ISSUER_CHANGED: MAY_APPROVE,
    EventType.CLIENT_SECRET_EXPIRING: MAY_CHANGE_SERVERS,
}


def administrators_of(event: Event) -> list[User]:
    """Return those who can do something about it at the server itself; nobody where it is for the person alone."""
    permission = _OF_ADMINISTRATORS.get(EventType(event.event_type))
    return holders_wanting_mail(permission) if permission else []


def people_of(event: Event) -> list[User]:
    """Return the owner, or for a shared connection those who manage it and see it; nobody where they can do nothing."""
    if event.event_type == EventType.CLIENT_SECRET_EXPIRING:
        return []
    if event.user_id is not None:
        return _wanting_mail(list(User.objects.filter(pk=event.user_id, is_active=True)))
    return _wanting_mail([user for user in _holders(MAY_REPAIR_SHARED) if _sees(user, event.connection_id)])


def people_of_webhook(webhook: Webhook) -> list[User]:
    """Return the owner, or those who manage the webhooks of the site."""
    owner = webhook.owner
    return _wanting_mail(_holders(SITE_WIDE_PERMISSION) if owner is None else [owner] if owner.is_active else [])


def person_if_wanting_mail(user_id: int) -> list[User]:
    """Return one person, or nobody where they are not here any more or want no e-mail at once."""
    return _wanting_mail(list(User.objects.filter(pk=user_id, is_active=True)))


def holders_wanting_mail(permission: str) -> list[User]:
    """Return everybody with a permission who wants e-mail at once."""
    return _wanting_mail(_holders(permission))


def _holders(permission: str) -> list[User]:
    return list(User.objects.with_perm(permission, backend=_BACKEND))


def _wanting_mail(users: list[User]) -> list[User]:
    others = MailPreference.objects.filter(user__in=users).exclude(rhythm=MailPreference.Rhythm.IMMEDIATELY)
    silent = set(others.values_list("user_id", flat=True))
    return [user for user in users if user.email and user.pk not in silent]


def _sees(user: User, connection_id: UUID) -> bool:
    return Connection.objects.visible_to(user).filter(pk=connection_id).exists()
