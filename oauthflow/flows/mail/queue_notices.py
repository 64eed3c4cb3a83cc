"""Write a notice for each person whom an event needs; not twice about the same thing within a day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import User

from oauthflow.flows.carriers import hand_on
from oauthflow.flows.outbox import PATIENCE
from oauthflow.models import CarrierPosition, Event, EventType, Notice, Webhook
from oauthflow.models.event import EventQuerySet

from .recipients import (
    MAY_CHANGE_SERVERS,
    administrators_of,
    holders_wanting_mail,
    people_of,
    people_of_webhook,
    person_if_wanting_mail,
)

WEBHOOK_STOPPED: Final = "webhook.disabled"
PROGRAM_STOPPED: Final = "client_grant.stopped"
TOOLS_CHANGED: Final = "tool.changed"
ISSUER_REFUSES: Final = "issuer.refuses"
NOT_AGAIN_WITHIN: Final = timedelta(hours=20)
# Who just started a sign-in is on the way; only what still waits then is told.
GRACE: Final = {EventType.AUTHORIZATION_REQUIRED: timedelta(minutes=3)}


def queue_notices(*, now: datetime) -> int:
    """Hand the newest events on to e-mail; without EMAIL_URL they pass unsent. Return how many need somebody."""

    def keep(events: Sequence[Event]) -> None:
        for event in events:
            _keep(event, now=now)

    return hand_on(CarrierPosition.Carrier.MAIL, concerning=_concerning, keep=keep)


def _concerning() -> EventQuerySet:
    return Event.objects.filter(requires_user_action=True) if settings.EMAIL_ENABLED else Event.objects.none()


def tell_webhook_stopped(webhook: Webhook, *, now: datetime) -> None:
    """Tell the owner of a webhook that this site disabled it; in the transaction that did."""
    if settings.EMAIL_ENABLED:
        for user in people_of_webhook(webhook):
            _write(
                user,
                now=now,
                subject=f"{WEBHOOK_STOPPED} {webhook.pk}",
                event_type=WEBHOOK_STOPPED,
                webhook_id=webhook.pk,
                message=f"The webhook to {webhook.host} was disabled. {webhook.get_disabled_because_display()}",
            )


def tell_program_stopped(user_id: int, *, family: str, now: datetime) -> None:
    """Tell a person that a program's access to this site ended because two held it; in the transaction that ended it.

    The program's name is its own choice, and so is on our page and not in the letter.
    """
    if settings.EMAIL_ENABLED:
        for user in person_if_wanting_mail(user_id):
            _write(
                user,
                now=now,
                subject=f"{PROGRAM_STOPPED} {family}",
                event_type=PROGRAM_STOPPED,
                message="The access of a program that acts for you was used in two places at once, so this site ended "
                "it. See which programs you allow; the one that is yours asks you again.",
            )


def tell_tools_changed(server: str, message: str, *, permission: str, now: datetime) -> None:
    """Tell those who may judge it that tools of a server are not what they were; in the transaction that noted it.

    Of many changes within a day the first one is told: the page it leads to shows all.
    """
    _tell_administrators(server, message[:300], event_type=TOOLS_CHANGED, permission=permission, now=now)


def tell_issuer_refuses(server: str, *, everybody: bool, now: datetime) -> None:
    """Tell those who may change servers what only they can settle; in the transaction that held requests back."""
    message = (
        "Its sign-in service refuses everybody's access. Nobody is asked to sign in again until you say whether that "
        "is to be believed."
        if everybody
        else "Its sign-in service does not know this site as a client any more. Access that ends is not renewed there."
    )
    _tell_administrators(server, message, event_type=ISSUER_REFUSES, permission=MAY_CHANGE_SERVERS, now=now)


def _tell_administrators(server: str, message: str, *, event_type: str, permission: str, now: datetime) -> None:
    if settings.EMAIL_ENABLED:
        subject = f"{event_type} of server {server}"
        for user in holders_wanting_mail(permission):
            told = Notice.objects.filter(user=user, subject=subject, created_at__gt=now - NOT_AGAIN_WITHIN)
            if not told.exists():
                _write(
                    user, now=now, subject=subject, event_type=event_type, server=server, message=message,
                    for_administrators=True,
                )  # fmt: skip


def _keep(event: Event, *, now: datetime) -> None:
    administrators = administrators_of(event)
    about: dict[str, Any] = {"event_type": event.event_type, "server": event.server, "message": event.message}
    for user in administrators:
        subject = f"{event.event_type} of server {event.server}"
        if not _told_lately(user, subject, event, now=now):
            _write(user, now=now, subject=subject, for_administrators=True, **about)
    for user in people_of(event):
        subject = f"{event.event_type} of {event.connection_id}"
        if user not in administrators and not _told_lately(user, subject, event, now=now):
            about |= {"connection_id": event.connection_id, "request_id": event.request_id}
            _write(user, now=now, subject=subject, **about)


def _told_lately(user: User, subject: str, event: Event, *, now: datetime) -> bool:
    """Whether this is nothing new: it was told within a day, and the connection has not worked since."""
    last = Notice.objects.filter(user=user, subject=subject, created_at__gt=now - NOT_AGAIN_WITHIN)
    told_at = last.order_by("-created_at").values_list("created_at", flat=True).first()
    if told_at is None:
        return False
    repaired = Event.objects.filter(
        connection_id=event.connection_id,
        event_type=EventType.AUTHORIZATION_COMPLETED,
        created_at__gt=told_at,
        cursor__lt=event.cursor,
    )
    return not repaired.exists()


def _write(user: User, *, now: datetime, event_type: str, **columns: Any) -> None:
    wait = GRACE.get(EventType(event_type), timedelta()) if event_type in EventType.values else timedelta()
    Notice.objects.create(
        user=user,
        event_type=event_type,
        next_attempt_at=now + wait,
        give_up_at=now + wait + PATIENCE,
        created_at=now,
        **columns,
    )
