"""Take back what people allowed a client, with all that was issued under it."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from audit.append import Entry, append_many, appended_last
from audit.events import AuditEvent
from audit.record import entry
from oauthflow.flows.webhooks.configure import stop_webhooks_of

from ..models import Consent, McpClient, TokenFamily
from ..protocol.redirect_uri import shown_host
from ..resources import api_resource
from .end_tokens import end_families, end_service_tokens


def end_consents(consents: QuerySet[Consent], *, reason: str, actor: object, now: datetime) -> int:
    """End these grants and every token of them; at resource servers within a second.

    Args:
        consents: Which ones; those that ended before are left alone.
        reason: A few words of ours, kept with each.
        actor: Who wanted it; None for this site itself.
        now: Aware UTC.

    Returns:
        How many ended.

    Spec: RFC 7009 §2.1; security notes AS14.
    """
    with transaction.atomic(), appended_last():
        standing = consents.filter(revoked_at__isnull=True).select_related("client", "server")
        ended = list(standing.select_for_update(of=("self",), no_key=True).order_by("pk"))
        if not ended:
            return 0
        pks = [consent.pk for consent in ended]
        Consent.objects.filter(pk__in=pks).update(revoked_at=now, revoked_reason=reason[:200])
        end_families(TokenFamily.objects.filter(consent__in=pks), reason=reason[:40], now=now)
        append_many([_record(consent, reason=reason, actor=actor) for consent in ended])
        _stop_webhooks(ended, now=now)
    return len(ended)


def end_client(client: McpClient, *, reason: str, actor: object, now: datetime) -> None:
    """End a client for good, and what it was allowed; tokens without a person too."""
    with transaction.atomic(), appended_last():
        McpClient.objects.filter(pk=client.pk, ended_at__isnull=True).update(ended_at=now)
        _end_all_of(client, reason=reason, actor=actor, now=now)


def block_client(client: McpClient, *, actor: object, now: datetime) -> None:
    """Let a client do nothing any more until an administrator lets it again; what it was allowed ends."""
    with transaction.atomic(), appended_last():
        McpClient.objects.filter(pk=client.pk, blocked_at__isnull=True).update(blocked_at=now)
        _end_all_of(client, reason="client_blocked", actor=actor, now=now)


def _end_all_of(client: McpClient, *, reason: str, actor: object, now: datetime) -> None:
    # Consents before families, as whoever takes back one of them does.
    standing = Consent.objects.filter(client=client, revoked_at__isnull=True)
    list(standing.select_for_update(no_key=True).order_by("pk").values_list("pk"))
    end_families(TokenFamily.objects.filter(client=client), reason=reason[:40], now=now)
    end_service_tokens(client.pk, now=now)
    end_consents(Consent.objects.filter(client=client), reason=reason, actor=actor, now=now)
    stop_webhooks_of(client.client_id, person_id=None, now=now)


def _stop_webhooks(ended: list[Consent], *, now: datetime) -> None:
    """What a program set up for a person stays no longer than the last grant under which it can look after it."""
    of_api = Consent.objects.standing().filter(resource=api_resource())
    for consent in ended:
        if consent.resource == api_resource() and not of_api.filter(user=consent.user_id, client=consent.client_id):
            stop_webhooks_of(consent.client.client_id, person_id=consent.user_id, now=now)


def _record(consent: Consent, *, reason: str, actor: object) -> Entry:
    return entry(
        AuditEvent.CLIENT_GRANT_REVOKED,
        actor=actor,
        server=consent.server.slug if consent.server else "",
        connection=consent.connection_id,
        client=consent.client.client_id,
        reason=reason,
        details={
            "user": consent.user_id,
            "host": shown_host(consent.redirect_uri),
            "resource": consent.resource,
            "scope": consent.scope,
        },
    )
