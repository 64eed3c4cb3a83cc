"""Append to the audit record and read what it then says."""

from __future__ import annotations

from typing import Any

from audit.events import AuditEvent
from audit.models import AuditRecord
from audit.record import record


def recorded(event: AuditEvent, **what: Any) -> AuditRecord:
    """Like `record`, and return the newest record."""
    record(event, **what)
    return AuditRecord.objects.latest("sequence")
