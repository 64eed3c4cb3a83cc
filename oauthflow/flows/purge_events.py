"""Delete events that are over, and what is known of their deliveries."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from oauthflow.models import Event, Notice, WebhookDelivery

EVENTS_KEPT: Final = timedelta(days=7)
"""How far back a reader of events can go on where it stopped."""


def purge_events(*, now: datetime) -> int:
    """Delete events that every reader had time to read; return how many went."""
    WebhookDelivery.objects.filter(created_at__lt=now - EVENTS_KEPT).delete()
    Notice.objects.filter(created_at__lt=now - EVENTS_KEPT).delete()
    deleted, _ = Event.over(before=now - EVENTS_KEPT).delete()
    return deleted
