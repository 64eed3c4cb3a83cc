"""What every carrier tells of an event: one form for Server-Sent Events, polling and webhooks."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from .models import Event, EventType


def event_body(event: Event) -> dict[str, Any]:
    """Return the JSON object of an event. Its `id` is the cursor after which a reader goes on."""
    return {
        "id": event.cursor,
        "event": event.event_type,
        "connection_id": str(event.connection_id),
        "server": event.server,
        "timestamp": event.created_at.isoformat(),
        "message": event.message,
        "code": event.code or None,
        "requires_user_action": event.requires_user_action,
        "authorization_url": authorization_url(event),
    }


def authorization_url(event: Event) -> str | None:
    """Return the page of ours where the person gets on; None where nobody, or only an administrator, can do anything.

    It holds no state and no code: whoever opens it signs in first and has to be the right person.
    """
    if event.request_id is not None:
        return f"{settings.PUBLIC_URL}/connect/requests/{event.request_id}"
    if event.event_type in (EventType.REAUTHORIZATION_REQUIRED, EventType.TOKEN_EXPIRING_SOON):
        return f"{settings.PUBLIC_URL}/connections/{event.connection_id}"
    return None
