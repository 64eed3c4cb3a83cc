"""Administrators judge how tools describe themselves; what is new is told to them and recorded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from django.db import transaction

from audit.events import AuditEvent
from audit.record import record
from oauthflow.flows.mail.queue_notices import tell_tools_changed

from ..models import ToolDefinition

if TYPE_CHECKING:
    from django.contrib.auth.models import User

MAY_APPROVE: Final = "gateway.approve_tooldefinition"
_MOST_NAMED: Final = 5


def report(definitions: Sequence[ToolDefinition], *, now: datetime) -> None:
    """Record wordings of one server that were seen for the first time, and tell administrators what waits for them.

    Belongs into the transaction that wrote them, as its last step.
    """
    server = definitions[0].server
    waiting = [one for one in definitions if one.state == ToolDefinition.State.WAITING]
    if waiting:
        names = sorted({one.name for one in waiting})
        shown = ", ".join(names[:_MOST_NAMED]) + (" and others" if len(names) > _MOST_NAMED else "")
        tell_tools_changed(
            server.slug,
            f"New or changed descriptions of tools wait for approval: {shown}.",
            permission=MAY_APPROVE,
            now=now,
        )
    for one in waiting:
        reason = "changed" if one.is_change else "new"
        record(AuditEvent.TOOL_CHANGED, server=server.slug, reason=reason, details={"tool": one.name})
    approved = [one.name for one in definitions if one.state == ToolDefinition.State.APPROVED]
    if approved:
        details = {"tool": approved, "count": len(approved)}
        record(AuditEvent.TOOL_APPROVED, server=server.slug, reason="first_seen", details=details)


def approve(definition: ToolDefinition, *, actor: User, now: datetime) -> None:
    """Let a tool describe itself like this; all processes know within a second."""
    with transaction.atomic():
        definition.state, definition.approved_at, definition.approved_by = ToolDefinition.State.APPROVED, now, actor
        definition.save()
        _record(definition, AuditEvent.TOOL_APPROVED, actor=actor, reason="approved")


def forget(definition: ToolDefinition, *, actor: User) -> None:
    """Forget a wording; if it comes again, it is reported again."""
    with transaction.atomic():
        definition.delete()
        _record(definition, AuditEvent.TOOL_CHANGED, actor=actor, reason="forgotten")


def _record(definition: ToolDefinition, event: AuditEvent, *, actor: User, reason: str) -> None:
    record(event, actor=actor, server=definition.server.slug, reason=reason, details={"tool": definition.name})
