"""Stop webhooks of programs that may not act any more for whom they set them up."""

from __future__ import annotations

from datetime import datetime

from oauthflow.flows.webhooks.configure import stop_webhook
from oauthflow.models import Webhook

from ..models import Consent, McpClient, ServiceAccount
from ..resources import api_resource


def stop_left_webhooks(*, now: datetime) -> int:
    """Disable them and return how many there were.

    `end_grants` does so at once; what is left was set up at the moment when the grant ended, or by a service account
    that is gone, or for a person who is. AS14.
    """
    set_up = Webhook.objects.filter(enabled=True).exclude(program="").select_related("owner")
    left = [webhook for webhook in set_up if not _may_still_act(webhook, now=now)]
    return sum(stop_webhook(webhook, because=Webhook.Trouble.PROGRAM_STOPPED, now=now) for webhook in left)


def _may_still_act(webhook: Webhook, *, now: datetime) -> bool:
    client = McpClient.objects.usable(now=now).filter(client_id=webhook.program).first()
    if client is None or webhook.program_acts_for_id is None:
        return False
    held = {"client": client, "user": webhook.program_acts_for_id}
    accounts = ServiceAccount.objects.filter(**held).values_list("resources", flat=True)
    of_api = Consent.objects.standing().filter(resource=api_resource(), **held)
    return of_api.exists() or any(api_resource() in resources for resources in accounts)
