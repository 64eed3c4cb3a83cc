"""Our grant lasts no longer than the upstream sign-in it stands on."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import pre_delete
from django.utils import timezone

from connections.models import Connection
from oauthflow.models import Event
from oauthflow.signals import credentials_revoked

from .flows.end_grants import end_consents
from .models import Consent


def end_with_connection(sender: object, *, event: Event, **kwargs: Any) -> None:
    """End what stands on a connection that was disconnected. P-14.

    One that only waits for a new sign-in ends nothing: the person is asked for that, and goes on.
    """
    standing = Consent.objects.filter(connection=event.connection_id)
    end_consents(standing, reason="upstream_disconnected", actor=None, now=timezone.now())


def end_before_deletion(sender: object, *, instance: Connection, **kwargs: Any) -> None:
    """The same where a connection is deleted, whatever was done with it before."""
    standing = Consent.objects.filter(connection=instance)
    end_consents(standing, reason="upstream_disconnected", actor=None, now=timezone.now())


def connect_receivers() -> None:
    """Hear of connections that end."""
    credentials_revoked.connect(end_with_connection, dispatch_uid="authserver.end_with_connection")
    pre_delete.connect(end_before_deletion, sender=Connection, dispatch_uid="authserver.end_before_deletion")
