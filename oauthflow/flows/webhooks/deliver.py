"""Send what waits: many at a time, but few to one host, so that a receiver that never answers holds up nobody else."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from django.utils import timezone

from oauthflow.egress import Answer, Limits, Sender, leave_database, open_sender
from oauthflow.flows.outbox import CLAIM, claim_due
from oauthflow.models import Webhook, WebhookDelivery
from oauthflow.protocol.errors import FlowError

from .configure import stop_webhooks_of_ended_tokens
from .message import TEST_EVENT, message
from .queue_events import queue_events
from .settle import drop, settle

IN_FLIGHT: Final = 64
IN_FLIGHT_PER_HOST: Final = 4
_TROUBLED: Final = 3
_WAIT_SECONDS: Final = 0.5
_SEND_WITHIN_SECONDS: Final = 30.0
_log: Final = structlog.get_logger(__name__)


def deliver_due(*, go_on: Callable[[], bool] = lambda: True) -> int:
    """Queue new events and send what is due, until nothing is; return how many messages were sent.

    Args:
        go_on: Asked before anything new is begun; what is under way is awaited, ten seconds at most.
    """
    _queue()
    if not WebhookDelivery.objects.filter(next_attempt_at__lte=timezone.now()).exists():
        return 0
    with closing(_open_sender()) as sender:
        courier = _Courier(sender)
        while True:
            if go_on():
                _queue()
                courier.take(now=timezone.now())
            if not courier.under_way:
                return courier.sent
            courier.settle_next()


def send_test(webhook: Webhook, *, now: datetime) -> WebhookDelivery:
    """Send a message that tells no event, once and at once, and return how it went."""
    delivery = WebhookDelivery.objects.create(
        webhook=webhook, event_type=TEST_EVENT, attempts=1, next_attempt_at=now + CLAIM, give_up_at=now, created_at=now
    )
    with closing(_open_sender()) as sender:
        courier = _Courier(sender)
        courier.send(delivery, now=now)
        leave_database()  # a receiver may take ten seconds, and a person may ask for many tests at once
        while courier.under_way:
            courier.settle_next()
    delivery.refresh_from_db()
    return delivery


def _queue() -> None:
    now = timezone.now()
    stop_webhooks_of_ended_tokens(now=now)
    queue_events(now=now)


def _open_sender() -> Sender:
    return open_sender(Limits.WEBHOOK, step="webhook")


class _Courier:
    def __init__(self, sender: Sender) -> None:
        self.under_way: dict[UUID, WebhookDelivery] = {}
        self.sent = 0
        self._sender = sender

    def take(self, *, now: datetime) -> None:
        """Claim and send what is due, as far as there is room; a host in trouble gets one message at a time."""
        due = WebhookDelivery.objects.filter(next_attempt_at__lte=now).values("webhook")
        busy = Counter(delivery.webhook.host for delivery in self.under_way.values())
        for webhook in Webhook.objects.filter(pk__in=due).select_related("owner"):
            width = 1 if webhook.failures >= _TROUBLED else IN_FLIGHT_PER_HOST
            room = min(width - busy[webhook.host], IN_FLIGHT - len(self.under_way))
            for delivery in claim_due(webhook.deliveries.all(), now=now, most=max(0, room)):
                delivery.webhook = webhook
                busy[webhook.host] += 1
                self.send(delivery, now=now)

    def send(self, delivery: WebhookDelivery, *, now: datetime) -> None:
        """Send one claimed delivery, or give it up where it may not be sent any more."""
        try:
            request = message(delivery, now=now) if delivery.webhook.enabled or delivery.event_cursor is None else None
        except FlowError as error:
            settle(delivery, Answer(delivery.pk, error, 0.0), now=now)
            return
        if request is None:
            drop(delivery)
            return
        self.under_way[delivery.pk] = delivery
        self.sent += 1
        self._sender.submit(delivery.pk, request, not_after=time.monotonic() + _SEND_WITHIN_SECONDS)

    def settle_next(self) -> None:
        """Wait a moment for an answer, and write down what became of it."""
        answer = self._sender.next(seconds=_WAIT_SECONDS)
        if answer is None:
            return
        delivery = self.under_way.pop(UUID(str(answer.key)))
        settle(delivery, answer, now=timezone.now())
