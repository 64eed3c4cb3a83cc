"""Whether what a notice says is still so when it is sent; and where the person gets on."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db.models import Q
from django.urls import reverse

from connections.models import Connection, McpServer
from oauthflow.models import AuthorizationRequest, EventType, IssuerHealth, Notice, Webhook

from .queue_notices import ISSUER_REFUSES, PROGRAM_STOPPED, TOOLS_CHANGED, WEBHOOK_STOPPED

_Status = Connection.Status
_STATE_OF_EVENT = {
    EventType.REAUTHORIZATION_REQUIRED: (_Status.REAUTH_REQUIRED,),
    EventType.ISSUER_CHANGED: (_Status.ISSUER_CHANGED,),
    EventType.TOKEN_EXPIRING_SOON: (_Status.ACTIVE, _Status.DEGRADED),
    EventType.AUTHORIZATION_REQUIRED: (_Status.PENDING, _Status.REAUTH_REQUIRED, _Status.REVOKED),
}


def is_still_true(notice: Notice, *, now: datetime) -> bool:
    """Whether the connection, the sign-in or the webhook is still as the notice says; what ended stays ended."""
    if notice.event_type == WEBHOOK_STOPPED:
        return Webhook.objects.filter(Q(pk=notice.webhook_id), enabled=False).exists()
    if notice.event_type in (PROGRAM_STOPPED, TOOLS_CHANGED):
        return True
    if notice.event_type == ISSUER_REFUSES:
        return (IssuerHealth.objects.guarded(now=now) | IssuerHealth.objects.refusing_us()).exists()
    if notice.event_type == EventType.CLIENT_SECRET_EXPIRING:
        return McpServer.objects.filter(slug=notice.server).exists()
    concerned = Connection.objects.filter(server__slug=notice.server)
    if not notice.for_administrators:
        concerned = concerned.filter(Q(pk=notice.connection_id))
    if notice.event_type == EventType.AUTHORIZATION_REQUIRED and not _waits(notice, now=now):
        return False
    return concerned.filter(status__in=_STATE_OF_EVENT[EventType(notice.event_type)]).exists()


def link_of(notice: Notice) -> str:
    """Return the page of ours where the person gets on. It holds no state and no code."""
    if notice.event_type == PROGRAM_STOPPED:
        return f"{settings.PUBLIC_URL}{reverse('oauthflow:connections')}"
    if notice.event_type == TOOLS_CHANGED:
        return f"{settings.PUBLIC_URL}{reverse('admin:gateway_tooldefinition_changelist')}"
    if notice.event_type == ISSUER_REFUSES:
        return f"{settings.PUBLIC_URL}{reverse('admin:oauthflow_issuerhealth_changelist')}"
    if notice.webhook_id is not None:
        return f"{settings.PUBLIC_URL}/connections/webhooks/{notice.webhook_id}"
    if notice.for_administrators:
        server = McpServer.objects.filter(slug=notice.server).values_list("pk", flat=True).first()
        return f"{settings.PUBLIC_URL}{reverse('admin:connections_mcpserver_change', args=(server,))}"
    return f"{settings.PUBLIC_URL}/connections/{notice.connection_id}"


def _waits(notice: Notice, *, now: datetime) -> bool:
    request = AuthorizationRequest.objects.filter(Q(pk=notice.request_id), expires_at__gt=now)
    return request.filter(status=AuthorizationRequest.Status.PENDING).exists()
