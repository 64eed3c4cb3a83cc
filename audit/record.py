"""Append to the audit record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from .chain import compute_mac, current_key, key_id
from .correlation import correlation_id
from .events import AuditEvent
from .models import AuditHead, AuditRecord

SYSTEM: Final = "system"

# What a record may say besides its columns. A name that is not here is a programming error, so that no secret gets in
# by carelessness.
ALLOWED_DETAILS: Final = frozenset(
    {
        "auth_method", "code", "count", "expires_at", "fields", "format", "generation", "has_refresh_token", "host",
        "issuer", "kind", "label", "method", "new_issuer", "old_issuer", "outcome", "path", "registration_method",
        "request", "requested_scope", "resource", "retryable", "revoked_upstream", "scope", "target", "token",
        "tool", "transport", "trigger", "user",
    }
)  # fmt: skip


def record(
    event: AuditEvent,
    *,
    actor: object = None,
    server: str = "",
    connection: object = None,
    client: str = "",
    reason: str = "",
    details: Mapping[str, object] | None = None,
) -> AuditRecord:
    """Append one record, in the caller's transaction or in its own.

    Call it last inside a transaction: it takes the lock on the end of the chain and holds it until the commit.

    Args:
        event: What happened.
        actor: A user, a user's id, or None for the system itself.
        server: Slug of the MCP server concerned.
        connection: A connection or its id.
        client: Name of the API token or client id that acted.
        reason: A code or a few words of ours.
        details: JSON-able values under names in `ALLOWED_DETAILS`; never a secret.

    Raises:
        ValueError: A detail has a name that is not allowed.
    """
    said = {name: _plain(value) for name, value in (details or {}).items()}
    if unknown := said.keys() - ALLOWED_DETAILS:
        raise ValueError(f"audit details {sorted(unknown)} are not in ALLOWED_DETAILS")
    with transaction.atomic():
        head = _lock_head()
        key = current_key()
        entry = AuditRecord(
            sequence=head.sequence,
            at=timezone.now(),
            event=event,
            actor=_id_of(actor) or SYSTEM,
            server=server,
            connection=_id_of(connection),
            client=client[:200],
            reason=reason[:200],
            correlation_id=correlation_id(),
            details=said,
            key_id=key_id(key),
            previous_mac=head.mac,
        )
        entry.mac = compute_mac(entry, key=key)
        entry.save()
        AuditHead.objects.filter(pk=head.pk).update(mac=entry.mac)
    return entry


def _lock_head() -> AuditHead:
    """Take the next number. The UPDATE holds the row lock (PostgreSQL) or the write lock (SQLite) until commit."""
    if not AuditHead.objects.filter(pk=1).update(sequence=F("sequence") + 1):
        AuditHead.objects.get_or_create(pk=1)
        AuditHead.objects.filter(pk=1).update(sequence=F("sequence") + 1)
    return AuditHead.objects.get(pk=1)


def _id_of(subject: object) -> str:
    if subject is None:
        return ""
    return str(getattr(subject, "pk", subject) or "")


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return sorted(str(item) for item in value)
    return str(value)[:500]
