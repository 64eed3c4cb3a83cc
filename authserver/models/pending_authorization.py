"""An authorization request of a client that waits for a person."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models

from connections.models import Connection, McpServer
from connections.sealing import SealedTextField

from .consent import Consent
from .mcp_client import McpClient

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class PendingAuthorization(models.Model):
    """The parameters of one request, checked; the browser holds nothing but the id.

    Bound to the person and to the browser's session. Decided once, and answered once.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user: models.ForeignKey[User, User] = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    browser_hash = models.CharField(max_length=64)
    client = models.ForeignKey(McpClient, models.CASCADE, related_name="+")
    redirect_uri = models.CharField(max_length=2048, help_text="As the request has it.")
    registered_redirect_uri = models.CharField(max_length=2048)
    resource = models.CharField(max_length=1000)
    scope = models.CharField(max_length=1000, blank=True)
    state_sealed = SealedTextField()
    code_challenge = models.CharField(max_length=43)
    server: models.ForeignKey[McpServer | None, McpServer | None] = models.ForeignKey(
        McpServer, models.CASCADE, null=True, blank=True, related_name="+"
    )
    consent: models.ForeignKey[Consent | None, Consent | None] = models.ForeignKey(
        Consent, models.CASCADE, null=True, blank=True, related_name="+", help_text="Set when the person allowed it."
    )
    connection: models.ForeignKey[Connection | None, Connection | None] = models.ForeignKey(
        Connection, models.CASCADE, null=True, blank=True, related_name="+", help_text="The upstream sign-in it awaits."
    )
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.client} asks {self.user}"

    def is_open(self, *, now: datetime) -> bool:
        """Whether the person may still decide."""
        return self.decided_at is None and self.answered_at is None and self.expires_at > now
