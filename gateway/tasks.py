"""Background work of the gateway."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from .conf import gateway_configuration
from .models import LegacySession


@shared_task
def forget_idle_sessions() -> int:
    """Delete sessions that nobody has used for long."""
    idle = timedelta(seconds=gateway_configuration().session_idle_seconds)
    return LegacySession.objects.filter(last_used_at__lt=timezone.now() - idle).delete()[0]
