"""An administrator says whose tokens a server takes. No network."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction

from audit.append import appended_last
from audit.events import AuditEvent
from audit.record import record

from ..models import InboundTrust

_SENT_TO = frozenset({"kind", "issuer", "introspection_endpoint", "client_id"})


def keep_trust(trust: InboundTrust, *, fields: Iterable[str], actor: object) -> bool:
    """Keep the rules of a server with their audit record.

    A client secret that would now be sent to somebody else is erased, unless it was set together with the new place.
    U12.

    Args:
        trust: With its new values.
        fields: Names of what changed; the secret's is `client_secret`.
        actor: The administrator.

    Returns:
        Whether a secret was erased.
    """
    changed = set(fields)
    erased = bool(trust.client_secret_sealed and changed & _SENT_TO and "client_secret" not in changed)
    if erased:
        trust.client_secret_sealed = ""
        changed.add("client_secret")
    with transaction.atomic():
        trust.save()
        _record(trust, actor, reason="callers_changed", fields=changed)
    return erased


def drop_trust(trust: InboundTrust, *, actor: object) -> None:
    """Delete the rules of a server, which from then on takes tokens of this site only."""
    with transaction.atomic(), appended_last():
        _record(trust, actor, reason="callers_deleted", fields=())
        trust.delete()


def _record(trust: InboundTrust, actor: object, *, reason: str, fields: Iterable[str]) -> None:
    details: dict[str, object] = {"kind": trust.kind, "issuer": trust.issuer, "fields": list(fields)}
    record(AuditEvent.POLICY_CHANGED, actor=actor, server=trust.server.slug, reason=reason, details=details)
