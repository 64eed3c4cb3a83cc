"""Us, as an authorization server knows us through dynamic registration."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils import timezone

from ..sealing import SealedTextField
from .mcp_server import McpServer


class ClientRegistrationQuerySet(models.QuerySet["ClientRegistration"]):
    """Registrations, in use and out of it."""

    def supersede(self, *, now: datetime | None = None) -> int:
        """Use these for no new sign-in from that instant on; return how many were in use."""
        status = ClientRegistration.Status
        return self.filter(status=status.ACTIVE).update(status=status.SUPERSEDED, superseded_at=now or timezone.now())


class ClientRegistration(models.Model):
    """A client that we registered by RFC 7591 for one MCP server at one issuer.

    Never sent to another issuer (R-18, R-19). At most one is active for a server and issuer; older ones are kept until
    no connection needs them, so that tokens can be tied to the registration that got them.
    """

    class Status(models.TextChoices):
        ACTIVE = "active", "Active"
        SUPERSEDED = "superseded", "Superseded"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    server = models.ForeignKey(McpServer, models.CASCADE, related_name="registrations")
    issuer = models.CharField(max_length=1000)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.ACTIVE)
    client_id = models.CharField(max_length=500)
    client_secret_sealed = SealedTextField()
    client_secret_expires_at = models.DateTimeField(null=True, blank=True)
    auth_method = models.CharField(max_length=24)
    redirect_uri = models.CharField(max_length=1000)
    scope = models.CharField(max_length=1000, blank=True)
    registration_client_uri = models.CharField(max_length=1000, blank=True)
    registration_access_token_sealed = SealedTextField()
    created_at = models.DateTimeField(auto_now_add=True)
    superseded_at = models.DateTimeField(null=True, blank=True)

    objects = ClientRegistrationQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        constraints = (
            models.UniqueConstraint(
                fields=("server", "issuer"), condition=Q(status="active"), name="one_active_registration"
            ),
        )

    def __str__(self) -> str:
        return f"{self.client_id} at {self.issuer}"

    def is_usable(self, *, redirect_uri: str, now: datetime) -> bool:
        """Whether it is active, for this redirect URI, and its secret has not expired."""
        expired = self.client_secret_expires_at is not None and self.client_secret_expires_at <= now
        return self.status == self.Status.ACTIVE and self.redirect_uri == redirect_uri and not expired
