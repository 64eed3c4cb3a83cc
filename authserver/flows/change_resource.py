"""An administrator enters or changes somebody else's resource, a service account, or an exchange policy."""

from __future__ import annotations

from django.db import transaction

from audit.append import appended_last
from audit.events import AuditEvent
from audit.record import record
from oauthflow.protocol.secret import Secret

from ..models import ExchangePolicy, ProtectedResource, ServiceAccount, hash_of_secret, new_client_secret


def enter_resource(resource: ProtectedResource, *, actor: object) -> Secret:
    """Keep a resource that somebody typed in; return the secret with which it asks about tokens."""
    return _give_secret(resource, actor=actor, reason="resource_entered")


def renew_resource_secret(resource: ProtectedResource, *, actor: object) -> Secret:
    """Give a resource a new secret; with the old one nobody learns anything within a second."""
    return _give_secret(resource, actor=actor, reason="resource_secret_renewed")


def keep_resource(resource: ProtectedResource, *, actor: object) -> None:
    """Keep what was changed of a resource."""
    with transaction.atomic():
        resource.save()
        _record(resource, actor=actor, reason="resource_changed")


def keep_right(right: ServiceAccount | ExchangePolicy, *, actor: object) -> None:
    """Keep what a program may do without a person, or with tokens of its callers."""
    kind = "service_account" if isinstance(right, ServiceAccount) else "exchange_policy"
    with transaction.atomic(), appended_last():
        right.save()
        record(AuditEvent.CLIENT_REGISTERED, actor=actor, client=right.client.client_id, reason=f"{kind}_changed")


def drop_right(right: ServiceAccount | ExchangePolicy, *, actor: object) -> None:
    """Take that right back; tokens of a service account end."""
    kind = "service_account" if isinstance(right, ServiceAccount) else "exchange_policy"
    client_id = right.client.client_id
    with transaction.atomic(), appended_last():
        right.delete()
        record(AuditEvent.CLIENT_GRANT_REVOKED, actor=actor, client=client_id, reason=f"{kind}_deleted")


def _give_secret(resource: ProtectedResource, *, actor: object, reason: str) -> Secret:
    secret = new_client_secret()
    resource.secret_hash = hash_of_secret(secret)
    with transaction.atomic():
        resource.save()
        _record(resource, actor=actor, reason=reason)
    return secret


def _record(resource: ProtectedResource, *, actor: object, reason: str) -> None:
    details = {"resource": resource.resource, "scope": " ".join(sorted(resource.scopes))}
    record(AuditEvent.CLIENT_REGISTERED, actor=actor, client=str(resource.pk), reason=reason, details=details)
