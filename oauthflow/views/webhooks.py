"""My webhooks: where events are sent, what became of each, and what can be done about it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from oauthflow.flows.webhooks import configure
from oauthflow.flows.webhooks.deliver import send_test
from oauthflow.models import EventType, Webhook, WebhookDelivery
from oauthflow.models.webhook import SITE_WIDE_PERMISSION
from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.secret import Secret

from .signed_in import SeeOther, SignedInRequest, signed_in
from .words import EVENT_WORDS, delivery_words

_DELIVERIES_SHOWN = 30


class WebhookForm(forms.Form):
    """Where to send what."""

    url = forms.CharField(max_length=1000, label="Address", widget=forms.URLInput(attrs={"autocomplete": "off"}))
    description = forms.CharField(max_length=200, label="Name", required=False)
    events = forms.MultipleChoiceField(
        choices=[(value, EVENT_WORDS[value]) for value in EventType.values],
        widget=forms.CheckboxSelectMultiple,
        label="What to send",
        help_text="None ticked: everything.",
        required=False,
    )
    site_wide = forms.BooleanField(label="Everybody's connections, not only mine", required=False)

    def __init__(self, *args: Any, may_choose_site: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not may_choose_site:
            del self.fields["site_wide"]


@sensitive_variables("secret")
@signed_in("GET", "HEAD", "POST")
def overview(request: SignedInRequest) -> HttpResponse:
    """Show the webhooks that the user manages, and make one; its secret is on this one answer."""
    form = WebhookForm(request.POST or None, may_choose_site=request.user.has_perm(SITE_WIDE_PERMISSION))
    if request.method == "POST" and form.is_valid():
        said = form.cleaned_data
        owner = None if said.pop("site_wide", False) else request.user
        try:
            webhook, secret = configure.create_webhook(**said, owner=owner, actor=request.user, now=timezone.now())
        except FlowError as error:
            form.add_error("url", error.message)
        else:
            return _detail(request, webhook, secret=secret)
    context = {"webhooks": Webhook.objects.managed_by(request.user).select_related("owner"), "form": form}
    return render(request, "oauthflow/webhooks.html", context)


@signed_in("GET", "HEAD", "POST")
def detail(request: SignedInRequest, webhook_id: UUID) -> HttpResponse:
    """Show one webhook with its log, or change it."""
    webhook = _managed(request, webhook_id)
    if request.method != "POST":
        return _detail(request, webhook)
    form = WebhookForm(request.POST)
    if form.is_valid():
        try:
            configure.change_webhook(webhook, actor=request.user, **form.cleaned_data)
        except FlowError as error:
            form.add_error("url", error.message)
        else:
            messages.success(request, "The webhook is changed.")
            return _back_to(webhook)
    return _detail(request, _managed(request, webhook_id), form=form)


@signed_in("POST")
def test(request: SignedInRequest, webhook_id: UUID) -> HttpResponse:
    """Send a test and say how it went."""
    webhook = _managed(request, webhook_id)
    delivery = send_test(webhook, now=timezone.now())
    worked = delivery.status == WebhookDelivery.Status.DELIVERED
    messages.add_message(
        request, messages.SUCCESS if worked else messages.ERROR, f"Test to {webhook.host}: {delivery_words(delivery)}."
    )
    return _back_to(webhook)


@signed_in("POST")
def switch(request: SignedInRequest, webhook_id: UUID) -> HttpResponse:
    """Enable or disable a webhook."""
    webhook = _managed(request, webhook_id)
    enabled = request.POST.get("enabled") == "true"
    try:
        configure.change_webhook(webhook, actor=request.user, enabled=enabled)
        messages.success(request, "The webhook is enabled." if enabled else "The webhook is disabled.")
    except FlowError as error:
        messages.error(request, error.message)
    return _back_to(webhook)


@sensitive_variables("secret")
@signed_in("POST")
def rotate(request: SignedInRequest, webhook_id: UUID) -> HttpResponse:
    """Make a new secret and show it on this one answer."""
    webhook = _managed(request, webhook_id)
    secret = configure.rotate_secret(webhook, actor=request.user, now=timezone.now())
    return _detail(request, webhook, secret=secret)


@signed_in("POST")
def delete(request: SignedInRequest, webhook_id: UUID) -> HttpResponse:
    """End a webhook."""
    webhook = _managed(request, webhook_id)
    configure.delete_webhook(webhook, actor=request.user)
    messages.success(request, f"Nothing is sent to {webhook.host} any more.")
    return SeeOther("/connections/webhooks/")


@signed_in("POST")
def redeliver(request: SignedInRequest, webhook_id: UUID, delivery_id: UUID) -> HttpResponse:
    """Send an event once more."""
    webhook = _managed(request, webhook_id)
    delivery = get_object_or_404(webhook.deliveries, pk=delivery_id, event_cursor__isnull=False)
    if webhook.enabled:
        configure.redeliver(delivery, now=timezone.now())
        messages.success(request, "It is sent again in a moment.")
    else:
        messages.error(request, "Enable the webhook first.")
    return _back_to(webhook)


def _managed(request: SignedInRequest, webhook_id: UUID) -> Webhook:
    return get_object_or_404(Webhook.objects.managed_by(request.user).select_related("owner"), pk=webhook_id)


def _detail(
    request: SignedInRequest, webhook: Webhook, *, form: WebhookForm | None = None, secret: Secret | None = None
) -> HttpResponse:
    stored = {"url": webhook.url, "description": webhook.description, "events": webhook.events}
    deliveries = webhook.deliveries.all()[:_DELIVERIES_SHOWN]
    context = {
        "webhook": webhook,
        "form": form or WebhookForm(initial=stored),
        "secret": secret.reveal() if secret else "",
        "deliveries": [
            (delivery, delivery_words(delivery), EVENT_WORDS[delivery.event_type]) for delivery in deliveries
        ],
        "signs_with_two": webhook.previous_secret_until is not None and webhook.previous_secret_until > timezone.now(),
    }
    return render(request, "oauthflow/webhook_detail.html", context)


def _back_to(webhook: Webhook) -> SeeOther:
    return SeeOther(f"/connections/webhooks/{webhook.pk}")
