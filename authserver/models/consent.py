"""What a person allowed a client."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q

from connections.models import Connection, McpServer

from .mcp_client import McpClient

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def fingerprint_of(*, redirect_uri: str, resource: str, scope: str) -> str:
    """Return what one index can hold of three long texts; none of them has a line break."""
    return hashlib.sha256("\n".join((redirect_uri, resource, scope)).encode()).hexdigest()


class ConsentQuerySet(models.QuerySet["Consent"]):
    """Reads of consents."""

    def standing(self) -> ConsentQuerySet:
        """Given, and not taken back."""
        return self.filter(revoked_at__isnull=True)


class Consent(models.Model):
    """One grant: this client may act for this person, here, with these scopes, and is answered there.

    Codes and tokens are issued under it; taking it back ends them all. Where the resource is a server whose upstream
    needs the person's own sign-in, `connection` is that sign-in and the grant lasts no longer than it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user: models.ForeignKey[User, User] = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="client_consents"
    )
    client = models.ForeignKey(McpClient, models.CASCADE, related_name="consents")
    redirect_uri = models.CharField(
        max_length=2048, help_text="As registered: for a loopback address the port of the moment is not part of it."
    )
    resource = models.CharField(max_length=1000)
    scope = models.CharField(max_length=1000, blank=True)
    fingerprint = models.CharField(max_length=64, editable=False, help_text="Of redirect URI, resource and scope.")
    server: models.ForeignKey[McpServer | None, McpServer | None] = models.ForeignKey(
        McpServer, models.CASCADE, null=True, blank=True, related_name="client_consents"
    )
    connection: models.ForeignKey[Connection | None, Connection | None] = models.ForeignKey(
        Connection, models.SET_NULL, null=True, blank=True, related_name="client_consents"
    )
    granted_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, db_index=True)
    revoked_reason = models.CharField(max_length=200, blank=True)

    objects = ConsentQuerySet.as_manager()

    class Meta:
        ordering = ("-granted_at",)
        constraints = (
            models.UniqueConstraint(
                fields=("user", "client", "fingerprint"),
                condition=Q(revoked_at__isnull=True),
                name="one_standing_consent",
            ),
        )

    def __str__(self) -> str:
        return f"{self.client} for {self.user}"
