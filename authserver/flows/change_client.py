"""An administrator enters a client, changes it, vouches for it, or blocks it."""

from __future__ import annotations

import secrets
from datetime import datetime

from django.db import transaction

from audit.append import appended_last
from audit.events import AuditEvent
from audit.record import record
from oauthflow.protocol.client_auth import SECRET_METHODS
from oauthflow.protocol.secret import Secret

from ..models import Consent, McpClient, hash_of_secret, new_client_secret
from ..protocol.redirect_uri import shown_host
from .end_grants import end_consents


def enter_client(client: McpClient, *, actor: object) -> Secret | None:
    """Keep a client that somebody typed in; return its secret where its method has one.

    Args:
        client: Not saved yet; checked by the form.
        actor: The administrator.
    """
    client.client_id = f"client_{secrets.token_urlsafe(24)}"
    client.kind = McpClient.Kind.PRE_REGISTERED
    secret = new_client_secret() if client.token_endpoint_auth_method in SECRET_METHODS else None
    client.client_secret_hash = hash_of_secret(secret) if secret else ""
    with transaction.atomic():
        client.save(force_insert=True)
        _record(client, actor=actor, reason="entered")
    return secret


def change_entered(client: McpClient, *, actor: object, now: datetime) -> None:
    """Keep what an administrator changed; grants end that are answered where the client is no longer, or go further."""
    if client.token_endpoint_auth_method not in SECRET_METHODS:
        client.client_secret_hash = ""
    with transaction.atomic(), appended_last():
        client.save()
        outside = [consent.pk for consent in Consent.objects.filter(client=client) if not _still_fits(consent, client)]
        end_consents(Consent.objects.filter(pk__in=outside), reason="client_changed", actor=actor, now=now)
        _record(client, actor=actor, reason="changed")


def _still_fits(consent: Consent, client: McpClient) -> bool:
    is_within = not client.scope or set(consent.scope.split()) <= set(client.scope.split())
    return is_within and consent.redirect_uri in client.redirect_uris


def renew_secret(client: McpClient, *, actor: object) -> Secret:
    """Give a client a new secret; the old one is good no more."""
    secret = new_client_secret()
    with transaction.atomic():
        McpClient.objects.filter(pk=client.pk).update(client_secret_hash=hash_of_secret(secret))
        _record(client, actor=actor, reason="secret_renewed")
    return secret


def set_verified(client: McpClient, verified: bool, *, actor: object) -> None:
    """Vouch for a client, or no longer."""
    with transaction.atomic():
        McpClient.objects.filter(pk=client.pk).update(verified=verified)
        _record(client, actor=actor, reason="verified" if verified else "verification_withdrawn")


def unblock_client(client: McpClient, *, actor: object) -> None:
    """Let a blocked client ask again; what it was allowed before stays ended."""
    with transaction.atomic():
        McpClient.objects.filter(pk=client.pk).update(blocked_at=None)
        _record(client, actor=actor, reason="unblocked")


def _record(client: McpClient, *, actor: object, reason: str) -> None:
    record(
        AuditEvent.CLIENT_REGISTERED,
        actor=actor,
        client=client.client_id,
        reason=reason,
        details={
            "kind": client.kind,
            "label": client.name,
            "host": [shown_host(uri) for uri in client.redirect_uris],
            "auth_method": client.token_endpoint_auth_method,
        },
    )
