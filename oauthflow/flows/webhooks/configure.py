"""Make, change and end webhooks; each change with its audit record."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.db.models import F

from audit.events import AuditEvent
from audit.record import record
from connections.lock_order import lock_by_key
from connections.models import ApiToken
from oauthflow.egress import judge_url
from oauthflow.flows.carriers import begin
from oauthflow.flows.mail.queue_notices import tell_webhook_stopped
from oauthflow.flows.outbox import PATIENCE
from oauthflow.models import CarrierPosition, EventType, Webhook, WebhookDelivery
from oauthflow.protocol.errors import InvalidRequestError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.webhook_signature import new_webhook_secret

if TYPE_CHECKING:
    from django.contrib.auth.models import User

MOST_OF_ONE_OWNER: Final = 20
BOTH_SIGN: Final = timedelta(hours=24)
"""How long the secret before the newest signs as well, so that a receiver can be changed in peace."""


def create_webhook(
    *,
    url: str,
    owner: User | None,
    actor: User,
    now: datetime,
    description: str = "",
    events: Iterable[str] = (),
    program: str = "",
    api_token: ApiToken | None = None,
) -> tuple[Webhook, Secret]:
    """Make a webhook; return it with its secret, which is shown this once.

    Args:
        url: Where to send.
        owner: Whose connections it hears of; None: all of the site. Whether the actor may is for the caller to know.
        actor: Who makes it.
        now: Aware UTC.
        description: The owner's own words.
        events: Values of `EventType`; none: all.
        program: Client id of the program that does it for the actor, with whose grant the webhook ends; empty: none.
        api_token: The actor's token with which it is done, and with which the webhook ends; None: a person does it.

    Raises:
        BlockedUrlError: The address leads to where this site does not send.
        InvalidRequestError: The owner has too many already.
    """
    judge_url(url)
    if Webhook.objects.filter(owner=owner).count() >= MOST_OF_ONE_OWNER:
        raise InvalidRequestError(f"more than {MOST_OF_ONE_OWNER} webhooks of one owner")
    begin(CarrierPosition.Carrier.WEBHOOKS)
    secret = new_webhook_secret()
    webhook = Webhook(url=url, owner=owner, description=description, events=_in_order(events), created_at=now)
    webhook.secret_sealed = secret
    webhook.program, webhook.program_acts_for, webhook.api_token = program, actor if program else None, api_token
    with transaction.atomic():
        webhook.save(force_insert=True)
        _record(webhook, actor=actor, kind="created")
    return webhook, secret


def change_webhook(
    webhook: Webhook,
    *,
    actor: User,
    url: str | None = None,
    description: str | None = None,
    events: Iterable[str] | None = None,
    enabled: bool | None = None,
    program: str = "",
    api_token: ApiToken | None = None,
) -> None:
    """Change what is given; to enable it forgets its troubles, to disable it gives up what waits.

    Who says where it leads, or enables it, is who set it up: a person, a program or an API token of theirs.

    Raises:
        BlockedUrlError: The address leads to where this site does not send.
    """
    if url is not None or enabled:
        judge_url(url or webhook.url)
    wanted: dict[str, object] = {
        "url": url,
        "description": description,
        "enabled": enabled,
        "events": None if events is None else _in_order(events),
    }
    changes = {name: value for name, value in wanted.items() if value not in (None, getattr(webhook, name))}
    if not changes:
        return
    fields = sorted(changes)
    if changes.get("enabled"):
        changes |= {"disabled_because": "", "failures": 0}
    if changes.get("enabled") or "url" in changes:
        changes |= {"program": program, "program_acts_for": actor if program else None, "api_token": api_token}
    for name, value in changes.items():
        setattr(webhook, name, value)
    with transaction.atomic():
        webhook.save(update_fields=[*changes, "updated_at"])
        if changes.get("enabled") is False:
            give_up_waiting(webhook)
        _record(webhook, actor=actor, kind="changed", fields=fields)


def rotate_secret(webhook: Webhook, *, actor: User, now: datetime) -> Secret:
    """Make a new secret and return it, this once; the one before signs as well for a day."""
    secret = new_webhook_secret()
    webhook.previous_secret_sealed = webhook.secret_sealed.reveal()
    webhook.previous_secret_until = now + BOTH_SIGN
    webhook.secret_sealed = secret
    with transaction.atomic():
        webhook.save(update_fields=["secret_sealed", "previous_secret_sealed", "previous_secret_until", "updated_at"])
        _record(webhook, actor=actor, kind="secret rotated")
    return secret


def delete_webhook(webhook: Webhook, *, actor: User) -> None:
    """Delete a webhook with its deliveries."""
    with transaction.atomic():
        lock_by_key(Webhook.objects.filter(pk=webhook.pk))
        Webhook.objects.filter(pk=webhook.pk).delete()
        _record(webhook, actor=actor, kind="deleted")


def stop_webhook(webhook: Webhook, *, because: Webhook.Trouble, now: datetime) -> bool:
    """Disable a webhook that cannot be used and tell its owner; False where it was disabled already."""
    with transaction.atomic():
        enabled = Webhook.objects.filter(pk=webhook.pk, enabled=True, url=webhook.url)
        if not enabled.update(enabled=False, disabled_because=because):
            return False
        webhook.enabled, webhook.disabled_because = False, because.value
        give_up_waiting(webhook)
        tell_webhook_stopped(webhook, now=now)
        _record(webhook, actor=None, kind="disabled", reason=because.value)
    return True


def stop_webhooks_of(program: str, *, person_id: int | None, now: datetime) -> None:
    """Disable what a program set up, for one person or for everybody (None): it may not act for them any more. AS14."""
    set_up = Webhook.objects.filter(program=program, enabled=True).select_related("owner")
    for webhook in set_up if person_id is None else set_up.filter(program_acts_for=person_id):
        stop_webhook(webhook, because=Webhook.Trouble.PROGRAM_STOPPED, now=now)


def stop_webhooks_of_ended_tokens(*, now: datetime) -> None:
    """Disable what personal API tokens set up that were revoked, are over or gone. AS14.

    Somebody who is suspended hears nothing anyway, and goes on where they were when they come back.
    """
    good = ApiToken.objects.valid(now=now)
    set_up = Webhook.objects.filter(enabled=True, api_token__isnull=False).exclude(owner__is_active=False)
    for webhook in set_up.exclude(api_token__in=good).select_related("owner"):
        stop_webhook(webhook, because=Webhook.Trouble.TOKEN_ENDED, now=now)


def redeliver(delivery: WebhookDelivery, *, now: datetime) -> None:
    """Send an event once more, under the id that it had."""
    WebhookDelivery.objects.filter(pk=delivery.pk).update(
        status=WebhookDelivery.Status.WAITING, next_attempt_at=now, give_up_at=now + PATIENCE
    )


def give_up_waiting(webhook: Webhook) -> None:
    """Send nothing more of what waits; an attempt under way counts no more."""
    waiting = webhook.deliveries.filter(next_attempt_at__isnull=False)
    waiting.update(status=WebhookDelivery.Status.FAILED, next_attempt_at=None, attempts=F("attempts") + 1)


def _in_order(events: Iterable[str]) -> list[str]:
    wanted = set(events)
    return [name for name in EventType.values if name in wanted]


def _record(webhook: Webhook, *, actor: User | None, kind: str, reason: str = "", fields: Iterable[str] = ()) -> None:
    record(
        AuditEvent.WEBHOOK_CHANGED,
        actor=actor,
        reason=reason,
        details={
            "kind": kind,
            "host": webhook.host,
            "target": str(webhook.pk),
            **({"fields": list(fields)} if fields else {}),
        },
    )
