"""What an administrator changes has to reach every process that remembers tokens, and ends what it takes away."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.utils import timezone

from audit.append import appended_last
from oauthflow.conf import configuration

from .flows.end_grants import end_consents
from .flows.end_tokens import advance_epoch, end_service_tokens
from .models import Consent, ProtectedResource, ServiceAccount


def connect_receivers() -> None:
    """Begin to look; doing it again changes nothing."""
    for signal in (post_save, post_delete):
        signal.connect(_resource_changed, sender=ProtectedResource, dispatch_uid="authserver.resource")
        signal.connect(_service_account_changed, sender=ServiceAccount, dispatch_uid="authserver.service_account")
    post_save.connect(_user_changed, sender=get_user_model(), dispatch_uid="authserver.user")


def _resource_changed(sender: object, **kwargs: Any) -> None:
    advance_epoch()


def _service_account_changed(sender: object, instance: ServiceAccount, created: bool = False, **kwargs: Any) -> None:
    if not created:
        end_service_tokens(instance.client_id, now=timezone.now())


def _user_changed(sender: object, instance: Any, created: bool = False, **kwargs: Any) -> None:
    if created or instance.is_active:
        return
    with transaction.atomic(), appended_last():
        advance_epoch()
        if configuration().revoke_deactivated:
            grants = Consent.objects.filter(user=instance)
            end_consents(grants, reason="user_deactivated", actor=None, now=timezone.now())
