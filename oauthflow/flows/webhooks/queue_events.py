"""Write a delivery for each event and each webhook that may hear of it and wants to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from connections.models import Connection
from oauthflow.flows.carriers import hand_on
from oauthflow.flows.outbox import PATIENCE
from oauthflow.models import CarrierPosition, Event, Webhook, WebhookDelivery
from oauthflow.models.event import EventQuerySet


def queue_events(*, now: datetime) -> int:
    """Hand the newest events on to webhooks; return how many events there were for them."""

    def keep(events: Sequence[Event]) -> None:
        WebhookDelivery.objects.bulk_create(
            WebhookDelivery(
                webhook=webhook,
                event_cursor=event.cursor,
                event_type=event.event_type,
                next_attempt_at=now,
                give_up_at=now + PATIENCE,
                created_at=now,
            )
            for webhook in Webhook.objects.filter(enabled=True).select_related("owner")
            for event in _heard(webhook, events)
        )

    return hand_on(CarrierPosition.Carrier.WEBHOOKS, concerning=_concerning, keep=keep)


def _concerning() -> EventQuerySet:
    return Event.objects.all() if Webhook.objects.filter(enabled=True).exists() else Event.objects.none()


def _heard(webhook: Webhook, events: Sequence[Event]) -> Iterator[Event]:
    """What streams would tell the owner too: of own connections, and of shared ones that the owner sees now. Z01."""
    wanted = [one for one in events if webhook.wants(one.event_type) and one.created_at >= webhook.created_at]
    owner = webhook.owner
    if owner is None:
        yield from wanted
    elif owner.is_active:
        shared = {event.connection_id for event in wanted if event.user_id is None}
        seen: set[UUID] = set()
        if shared:
            seen = set(Connection.objects.visible_to(owner).filter(pk__in=shared).values_list("pk", flat=True))
        yield from (one for one in wanted if one.user_id == owner.pk or one.connection_id in seen)
