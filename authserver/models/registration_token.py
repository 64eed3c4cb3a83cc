"""What an administrator hands to programs that may register themselves."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import models
from django.db.models import Q


class RegistrationTokenQuerySet(models.QuerySet["RegistrationToken"]):
    """Reads of initial access tokens."""

    def valid(self, *, now: datetime) -> RegistrationTokenQuerySet:
        """Neither revoked nor expired."""
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True)


class RegistrationToken(models.Model):
    """An initial access token of RFC 7591 §3; only its hash is kept."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80, help_text="Whom you give it to.")
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = RegistrationTokenQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return self.name
