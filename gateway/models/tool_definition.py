"""How tools describe themselves: what was approved, and what came instead."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from connections.models import McpServer


class ToolDefinition(models.Model):
    """One wording of one tool. A tool that describes itself differently to different people has several.

    Spec: security notes G15.
    """

    class State(models.TextChoices):
        APPROVED = "approved", "Approved"
        WAITING = "waiting", "Waits for approval"

    server = models.ForeignKey(McpServer, models.CASCADE, related_name="tool_definitions")
    name = models.CharField(max_length=128)
    digest = models.CharField(max_length=64, help_text="SHA-256 of name, title, description, schemas and annotations.")
    definition = models.JSONField()
    state = models.CharField(max_length=8, choices=State.choices)
    is_change = models.BooleanField(default=False, help_text="Another wording of this tool was there before.")
    first_seen_at = models.DateTimeField()
    approved_at = models.DateTimeField(null=True, blank=True)
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+",
        help_text="Empty: approved when it was first seen.",
    )  # fmt: skip

    class Meta:
        ordering = ("state", "-first_seen_at", "name")
        constraints = (
            models.UniqueConstraint(fields=("server", "name", "digest"), name="gateway_one_row_of_a_wording"),
        )
        permissions = (("approve_tooldefinition", "Can approve how tools describe themselves"),)

    def __str__(self) -> str:
        return f"{self.name} at {self.server}"
