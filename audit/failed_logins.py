"""Failed sign-ins to this site go into the record: who was meant, never what was typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_login_failed

from .events import AuditEvent
from .record import record


def connect_receiver() -> None:
    """Begin to record; doing it again changes nothing."""
    user_login_failed.connect(_record, dispatch_uid="audit.failed_logins")


def _record(sender: object, credentials: Mapping[str, Any], **kwargs: Any) -> None:
    named = str(credentials.get("username", ""))[:150].replace("\0", "")
    meant = get_user_model().objects.filter(username=named).first()
    # People type passwords into the wrong field: a name that is nobody's is not kept.
    record(AuditEvent.LOGIN_FAILED, actor=meant, reason="" if meant else "unknown name")
