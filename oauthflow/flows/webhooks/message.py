"""What is sent: the event as every carrier tells it, signed."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from oauthflow.event_body import event_body
from oauthflow.models import Event, Webhook, WebhookDelivery
from oauthflow.protocol.messages import Request
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.webhook_signature import signature_headers

TEST_EVENT: Final = "webhook.test"


def message(delivery: WebhookDelivery, *, now: datetime) -> Request | None:
    """Return the request of a delivery, or None where the owner may not, or nobody can, hear of its event any more.

    Raises:
        SecretUnreadableError: The webhook's secret does not open here.
    """
    body = _body(delivery)
    if body is None:
        return None
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    headers = signature_headers(
        content,
        message_id=delivery.message_id,
        sent_at=now,
        signing_secrets=_signing_secrets(delivery.webhook, now=now),
    )
    return Request(
        "POST", delivery.webhook.url, headers={"Content-Type": "application/json", **headers}, content=content
    )


def _body(delivery: WebhookDelivery) -> dict[str, Any] | None:
    if delivery.event_cursor is None:
        return _test_body(delivery)
    owner = delivery.webhook.owner
    events = Event.objects.all() if owner is None else Event.objects.visible_to(owner)
    event = events.filter(cursor=delivery.event_cursor).first()
    if event is None or (owner is not None and not owner.is_active):
        return None
    return event_body(event)


def _test_body(delivery: WebhookDelivery) -> dict[str, Any]:
    return {
        "id": 0,
        "event": TEST_EVENT,
        "connection_id": None,
        "server": "",
        "timestamp": delivery.created_at.isoformat(),
        "message": "This is a test. Whoever reads it can verify its signature.",
        "code": None,
        "requires_user_action": False,
        "authorization_url": None,
    }


def _signing_secrets(webhook: Webhook, *, now: datetime) -> list[Secret]:
    secrets = [webhook.secret_sealed.reveal()]
    if webhook.previous_secret_until is not None and webhook.previous_secret_until > now:
        secrets.append(webhook.previous_secret_sealed.reveal())
    return secrets
