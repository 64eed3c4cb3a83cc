"""Background work of the authorization server: each task calls one flow."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from .flows.forget_clients import forget_unused
from .flows.purge_tokens import purge_tokens
from .flows.stop_left_webhooks import stop_left_webhooks as stop_left


@shared_task
def forget_unused_clients() -> int:
    """Let go of clients that nobody uses."""
    return forget_unused(now=timezone.now())


@shared_task
def purge_old_tokens() -> int:
    """Delete codes, families, revocations and assertions that are over."""
    return purge_tokens(now=timezone.now())


@shared_task
def stop_left_webhooks() -> int:
    """Stop webhooks of programs that may not act any more."""
    return stop_left(now=timezone.now())
