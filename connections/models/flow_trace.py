"""What was tried against a server, step by step, for whoever has to find out why it failed."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

from .connection import Connection
from .mcp_server import McpServer


class FlowTrace(models.Model):
    """One attempt, redacted: addresses without query, status, time, a verdict in words. The newest 20 are kept."""

    KEPT_PER_SERVER = 20

    class Kind(models.TextChoices):
        CHECK = "check", "Check of the server"
        AUTHORIZE = "authorize", "Start of a sign-in"
        CALLBACK = "callback", "End of a sign-in"
        REFRESH = "refresh", "Refresh"
        CHALLENGE = "challenge", "Reported challenge"
        REVOKE = "revoke", "Revocation"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    server = models.ForeignKey(McpServer, models.CASCADE, related_name="traces")
    connection = models.ForeignKey(Connection, models.CASCADE, null=True, blank=True, related_name="traces")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    ok = models.BooleanField(default=False)
    code = models.CharField(max_length=40, blank=True)
    verdict = models.TextField(blank=True)
    steps = models.JSONField(default=list)
    correlation_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.kind} {self.code or 'ok'}"
