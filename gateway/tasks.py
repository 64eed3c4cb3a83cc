"""Background work of the gateway."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from .conf import gateway_configuration
from .models import CallArguments, LegacySession, Usage


@shared_task
def forget_idle_sessions() -> int:
    """Delete sessions that nobody has used for long."""
    idle = timedelta(seconds=gateway_configuration().session_idle_seconds)
    return LegacySession.objects.filter(last_used_at__lt=timezone.now() - idle).delete()[0]


@shared_task
def forget_old_calls() -> int:
    """Delete counts and arguments of calls that are older than they are to be kept; return how many rows."""
    now, configuration = timezone.now(), gateway_configuration()
    counted = Usage.objects.filter(hour__lt=now - timedelta(days=configuration.usage_days))
    kept = CallArguments.objects.filter(at__lt=now - timedelta(days=configuration.arguments_days))
    return counted.delete()[0] + kept.delete()[0]
