"""Where events are sent to, and what became of each that was."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.db import models
from django.db.models import Q

from connections.sealing import SealedTextField
from oauthflow.protocol.urls import parse_http_url

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from connections.models import ApiToken

SITE_WIDE_PERMISSION: Final = "oauthflow.manage_site_webhooks"


class WebhookQuerySet(models.QuerySet["Webhook"]):
    """Reads of webhooks."""

    def managed_by(self, user: User) -> WebhookQuerySet:
        """The user's own, and those of the whole site where the user may manage them. Z01."""
        mine = Q(owner_id=user.pk)
        return self.filter(mine | Q(owner__isnull=True) if user.has_perm(SITE_WIDE_PERMISSION) else mine)


class Webhook(models.Model):
    """An address that hears of a person's connections, or (no owner) of all. Written by `flows.webhooks` alone."""

    class Trouble(models.TextChoices):
        GONE = "gone", "The receiver answered 410: it wants no more."
        FAILING = "failing", "Nothing could be delivered for a day."
        BLOCKED = "blocked", "The address leads to where this site does not send."
        PROGRAM_STOPPED = "program", "The program that set it up was stopped."
        TOKEN_ENDED = "token", "The API token that set it up has ended."

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner: models.ForeignKey[User | None, User | None] = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="webhooks"
    )
    url = models.CharField("URL", max_length=1000)
    description = models.CharField(max_length=200, blank=True)
    events = models.JSONField(default=list, blank=True, help_text="Which events are sent; empty: all.")
    enabled = models.BooleanField(default=True)
    disabled_because = models.CharField(
        max_length=10, blank=True, choices=Trouble.choices, help_text="Why this site stopped it; empty: it did not."
    )
    secret_sealed = SealedTextField()
    previous_secret_sealed = SealedTextField()
    previous_secret_until = models.DateTimeField(null=True, blank=True, help_text="Until then both secrets sign.")
    program = models.CharField(
        max_length=1000,
        blank=True,
        default="",
        db_default="",
        help_text="Client id of the program that set it up; empty: a person did.",
    )
    program_acts_for: models.ForeignKey[User | None, User | None] = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    # Whether the row is still there is part of whether the token is good, so nothing follows when it goes.
    api_token: models.ForeignKey[ApiToken | None, ApiToken | None] = models.ForeignKey(
        "connections.ApiToken", models.DO_NOTHING, null=True, blank=True, db_constraint=False, related_name="+",
        help_text="The personal API token that set it up; empty: none did.",
    )  # fmt: skip
    failures = models.PositiveIntegerField(default=0, help_text="Attempts that failed since the last that did not.")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField(auto_now=True)

    objects = WebhookQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        permissions = (("manage_site_webhooks", "Can manage webhooks that hear of everybody's connections"),)

    def __str__(self) -> str:
        return self.description or self.host

    @property
    def host(self) -> str:
        """Host and port, to show and to log: the rest of an address may hold what only its owner should know."""
        return parse_http_url(self.url).authority

    def wants(self, event_type: str) -> bool:
        """Whether events of this type are sent there."""
        return not self.events or event_type in self.events


class WebhookDelivery(models.Model):
    """One event on its way to one address; its id stays the same over all attempts. `next_attempt_at` is the queue."""

    class Status(models.TextChoices):
        WAITING = "waiting", "Waiting"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Given up"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries")
    event_cursor = models.BigIntegerField(null=True, blank=True, help_text="Empty: a test.")
    event_type = models.CharField(max_length=40)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True, db_index=True, help_text="Empty: it is over.")
    give_up_at = models.DateTimeField()
    last_attempt_at = models.DateTimeField(null=True, blank=True)
    last_status = models.PositiveSmallIntegerField(null=True, blank=True, help_text="HTTP status; empty: no answer.")
    last_error = models.CharField(max_length=40, blank=True, help_text="Why there was no usable answer.")
    last_duration_ms = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ("-created_at", "-event_cursor")
        verbose_name_plural = "webhook deliveries"
        constraints = (
            models.UniqueConstraint(fields=("webhook", "event_cursor"), name="one_delivery_of_an_event_to_a_webhook"),
        )

    def __str__(self) -> str:
        return f"{self.event_type} to {self.webhook_id}: {self.status}"

    @property
    def message_id(self) -> str:
        """What the receiver knows it by."""
        return f"msg_{self.pk.hex}"


class CarrierPosition(models.Model):
    """How far a carrier that is sent to, and does not ask by itself, has come in the events."""

    class Carrier(models.TextChoices):
        WEBHOOKS = "webhooks", "Webhooks"
        MAIL = "mail", "E-mail"

    carrier = models.CharField(max_length=10, primary_key=True, choices=Carrier.choices)
    cursor = models.BigIntegerField(help_text="Of the last event that was handed on.")

    def __str__(self) -> str:
        return f"{self.carrier}: {self.cursor}"
