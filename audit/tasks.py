"""What the audit record needs from time to time."""

from __future__ import annotations

from datetime import timedelta

import structlog
from celery import shared_task
from django.conf import settings
from django.utils import timezone

from .anchors import anchor_head, our_anchors
from .retention import BrokenChainError, remove_older

_log = structlog.get_logger(__name__)


@shared_task
def note_audit_head() -> bool:
    """Note the end of the chain outside the database, also where nothing was appended lately."""
    return anchor_head()


@shared_task
def remove_old_audit_records() -> int:
    """Remove what is older than `AUDIT_RETENTION_DAYS`; 0 days: never."""
    days: int = settings.AUDIT_RETENTION_DAYS
    if not days:
        return 0
    now = timezone.now()
    try:
        return remove_older(before=now - timedelta(days=days), now=now, anchors=our_anchors())
    except BrokenChainError as error:
        _log.exception("no audit records were removed", count=error.found.sequence)
        return 0
