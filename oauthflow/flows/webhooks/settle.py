"""What becomes of a delivery, and of its webhook, after an attempt."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import structlog
from django.db import transaction
from django.db.models import F

from audit.events import AuditEvent
from audit.record import record
from oauthflow.egress import Answer
from oauthflow.flows.outbox import PATIENCE, pause_after, write_back
from oauthflow.models import Webhook, WebhookDelivery
from oauthflow.protocol.errors import BlockedUrlError, FlowError
from oauthflow.protocol.retry_after import parse_retry_after

from .configure import stop_webhook

_GONE: Final = 410
_HTTP: Final = "http_status"
_Status = WebhookDelivery.Status
_log: Final = structlog.get_logger(__name__)


def settle(delivery: WebhookDelivery, answer: Answer, *, now: datetime) -> None:
    """Write down an attempt: delivered, to be tried again, or given up.

    Any 2xx is a delivery; 410 ends the webhook, and so does a day without one delivery, or an address that leads inside
    by now. A test is tried once and says nothing about the webhook.
    """
    error = _error(answer)
    delivered = error == ""
    is_test = delivery.event_cursor is None
    again = None if delivered or is_test else _next_attempt(delivery, answer, now=now)
    status = _Status.DELIVERED if delivered else _Status.FAILED if again is None else _Status.WAITING
    is_mine = write_back(
        delivery,
        status=status,
        next_attempt_at=again,
        last_attempt_at=now,
        last_status=None if isinstance(answer.outcome, FlowError) else answer.outcome.status,
        last_error=error,
        last_duration_ms=round(answer.seconds * 1000),
    )
    _log.info("webhook.attempt", host=delivery.webhook.host, outcome=error or "delivered", attempt=delivery.attempts)
    if is_mine and not is_test:
        _note(delivery.webhook, answer, delivered=delivered, given_up=again is None, now=now)


def drop(delivery: WebhookDelivery) -> None:
    """Give up what nobody may hear of any more."""
    write_back(delivery, status=_Status.FAILED, next_attempt_at=None, last_error="dropped")


def _error(answer: Answer) -> str:
    if isinstance(answer.outcome, FlowError):
        return str(answer.outcome.code)
    return "" if 200 <= answer.outcome.status < 300 else _HTTP


def _next_attempt(delivery: WebhookDelivery, answer: Answer, *, now: datetime) -> datetime | None:
    asked = None
    if not isinstance(answer.outcome, FlowError):
        asked = parse_retry_after(answer.outcome.headers.get("retry-after", ""), now=now)
    at = now + pause_after(delivery.attempts, asked_seconds=asked)
    return min(at, delivery.give_up_at) if now < delivery.give_up_at else None


def _note(webhook: Webhook, answer: Answer, *, delivered: bool, given_up: bool, now: datetime) -> None:
    row = Webhook.objects.filter(pk=webhook.pk)
    if delivered:
        row.filter(failures__gt=0).update(failures=0)
        webhook.failures = 0
        return
    row.update(failures=F("failures") + 1)
    webhook.failures += 1
    if not isinstance(answer.outcome, FlowError) and answer.outcome.status == _GONE:
        stop_webhook(webhook, because=Webhook.Trouble.GONE, now=now)
    elif isinstance(answer.outcome, BlockedUrlError):
        with transaction.atomic():
            if stop_webhook(webhook, because=Webhook.Trouble.BLOCKED, now=now):
                record(AuditEvent.EGRESS_BLOCKED, reason=answer.outcome.code, details={"host": webhook.host})
    elif given_up and not _delivered_lately(webhook, now=now):
        stop_webhook(webhook, because=Webhook.Trouble.FAILING, now=now)


def _delivered_lately(webhook: Webhook, *, now: datetime) -> bool:
    return webhook.deliveries.filter(status=_Status.DELIVERED, last_attempt_at__gt=now - PATIENCE).exists()
