"""Webhooks in the admin: everybody's, to look at; they are changed on their owner's page."""

from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString

from audit.look_only import LookOnlyAdmin, badge, moment
from oauthflow.models import Webhook, WebhookDelivery


@admin.register(Webhook)
class WebhookAdmin(LookOnlyAdmin):
    """Where events go to."""

    list_display = ("host", "description", "whose", "state", "wanted", "created")
    list_filter = ("enabled", "disabled_because")
    list_select_related = ("owner",)
    search_fields = ("description", "owner__username")
    fields = ("host", "description", "whose", "state", "disabled_because", "wanted", "failures", "created")

    @admin.display(description="whose", ordering="owner")
    def whose(self, webhook: Webhook) -> str:
        return webhook.owner.get_username() if webhook.owner else "The whole site"

    @admin.display(description="status", ordering="enabled")
    def state(self, webhook: Webhook) -> SafeString:
        if not webhook.enabled:
            return badge("Disabled", tone="bad" if webhook.disabled_because else "")
        return badge("Failing", tone="warn") if webhook.failures else badge("Enabled", tone="good")

    @admin.display(description="events")
    def wanted(self, webhook: Webhook) -> str:
        return ", ".join(webhook.events) or "all"

    @admin.display(description="made", ordering="created_at")
    def created(self, webhook: Webhook) -> SafeString:
        return moment(webhook.created_at)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(LookOnlyAdmin):
    """What was sent, and how it went."""

    list_display = ("event_type", "webhook", "state", "attempts", "answer", "tried", "again")
    list_filter = ("status", "event_type", "last_error")
    list_select_related = ("webhook",)
    search_fields = ("webhook__description", "webhook__owner__username")
    fields = (
        "message_id", "event_type", "webhook", "state", "attempts", "answer", "tried", "again", "created",
    )  # fmt: skip

    @admin.display(description="status", ordering="status")
    def state(self, delivery: WebhookDelivery) -> SafeString:
        tones = {"delivered": "good", "failed": "bad"}
        return badge(delivery.get_status_display(), tone=tones.get(delivery.status, "warn"))

    @admin.display(description="last answer")
    def answer(self, delivery: WebhookDelivery) -> str:
        took = "" if delivery.last_duration_ms is None else f" after {delivery.last_duration_ms} ms"
        return f"{delivery.last_status or delivery.last_error}{took}"

    @admin.display(description="last attempt", ordering="last_attempt_at")
    def tried(self, delivery: WebhookDelivery) -> SafeString:
        return moment(delivery.last_attempt_at)

    @admin.display(description="next attempt", ordering="next_attempt_at")
    def again(self, delivery: WebhookDelivery) -> SafeString:
        return moment(delivery.next_attempt_at)

    @admin.display(description="event of", ordering="created_at")
    def created(self, delivery: WebhookDelivery) -> SafeString:
        return moment(delivery.created_at)
