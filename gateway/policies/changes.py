"""Changes of policies: recorded, and noticed by every process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F
from django.db.models.signals import post_delete, post_save

from audit.append import appended_last, at_the_end
from audit.events import AuditEvent
from audit.record import record

from ..models import GroupPolicy, PolicyVersion, ServerPolicy, ToolDefinition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.contrib.auth.models import User


def connect_receivers() -> None:
    """Begin to look; doing it again changes nothing."""
    for model in (ServerPolicy, GroupPolicy, ToolDefinition):
        for signal in (post_save, post_delete):
            signal.connect(_changed, sender=model, dispatch_uid=f"gateway.{model.__name__}")


def advance_version() -> None:
    """Have all processes look again; in the transaction that changes a policy or an approval."""
    at_the_end(_advance)


def _advance() -> None:
    if not PolicyVersion.objects.filter(pk=1).update(number=F("number") + 1):
        PolicyVersion.objects.get_or_create(pk=1, defaults={"number": 1})


def keep_rule(rule: ServerPolicy | GroupPolicy, *, fields: Iterable[str], actor: User) -> None:
    """Keep a rule.

    Args:
        rule: With its new values.
        fields: Names of what changed. That arguments are kept, or not any more, is a record of its own.
        actor: The administrator.
    """
    changed = sorted(fields)
    with transaction.atomic(), appended_last():
        rule.save()
        if "keeps_arguments" in changed and isinstance(rule, ServerPolicy):
            _record(rule, actor, reason="arguments_kept" if rule.keeps_arguments else "arguments_not_kept")
        _record(rule, actor, reason="rule_changed", fields=changed)


def drop_rule(rule: ServerPolicy | GroupPolicy, *, actor: User) -> None:
    """Delete a rule; what held without it holds again."""
    with transaction.atomic(), appended_last():
        if isinstance(rule, ServerPolicy) and rule.keeps_arguments:
            _record(rule, actor, reason="arguments_not_kept")
        _record(rule, actor, reason="rule_deleted")
        rule.delete()


def _record(rule: ServerPolicy | GroupPolicy, actor: User, *, reason: str, fields: Iterable[str] = ()) -> None:
    policy = rule if isinstance(rule, ServerPolicy) else rule.policy
    details: dict[str, object] = {"fields": list(fields)} if fields else {}
    if isinstance(rule, GroupPolicy):
        details["target"] = rule.group.name
    record(AuditEvent.POLICY_CHANGED, actor=actor, server=policy.server.slug, reason=reason, details=details)


def _changed(sender: object, **kwargs: Any) -> None:
    advance_version()
