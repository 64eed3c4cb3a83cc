"""What went through the gateway: counts by the hour, and for a short time arguments where an administrator asks."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

from connections.models import McpServer


class Outcome(models.TextChoices):
    """How a call ended."""

    OK = "ok", "Answered"
    TOOL_ERROR = "tool_error", "The tool said that it failed"
    RPC_ERROR = "rpc_error", "The server refused"
    UPSTREAM_ERROR = "upstream_error", "The server did not answer rightly"
    NEEDS_PERSON = "needs_person", "Somebody has to connect first"
    FORBIDDEN = "forbidden", "Not allowed here"
    OVER_LIMIT = "over_limit", "Over a limit"
    CANCELLED = "cancelled", "The client went away"
    ENDED = "ended", "This site ended it"
    FAILED_HERE = "failed_here", "This site failed"


class Usage(models.Model):
    """Calls of one hour that have everything in common but their moment, and took about as long.

    Rows are only added to; the histogram of an hour is the rows that differ in `up_to_ms`.
    """

    hour = models.DateTimeField(help_text="Its beginning, UTC.")
    server = models.CharField(max_length=80, help_text="Slug.")
    user_id = models.BigIntegerField(help_text="Of whoever called.")
    client = models.CharField(max_length=200, help_text="The program, by its client id; empty: unknown.")
    method = models.CharField(max_length=40)
    name = models.CharField(max_length=128, help_text="Of the tool; empty for other methods.")
    outcome = models.CharField(max_length=14, choices=Outcome.choices)
    up_to_ms = models.PositiveIntegerField(help_text="They took at most this long; 0: longer than the longest class.")
    count = models.PositiveBigIntegerField()
    request_bytes = models.PositiveBigIntegerField()
    response_bytes = models.PositiveBigIntegerField()
    milliseconds = models.PositiveBigIntegerField()

    class Meta:
        verbose_name = "gateway usage"
        verbose_name_plural = "gateway usage"
        default_permissions = ("view",)
        constraints = (
            models.UniqueConstraint(
                fields=("hour", "server", "user_id", "client", "method", "name", "outcome", "up_to_ms"),
                name="gateway_one_row_of_usage",
            ),
        )

    def __str__(self) -> str:
        return f"{self.count} × {self.method} {self.name} at {self.server}"


class CallArguments(models.Model):
    """What a tool was called with; only of servers whose policy says so. Secrets are masked before they get here."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    server = models.ForeignKey(McpServer, models.CASCADE, related_name="+", db_constraint=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_constraint=False)
    tool = models.CharField(max_length=128)
    arguments = models.TextField(help_text="JSON, cut after 4 KiB.")
    correlation_id = models.CharField(max_length=64, db_index=True, help_text="That of the audit record.")
    at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ("-at",)
        verbose_name = "arguments of a call"
        verbose_name_plural = "arguments of calls"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.tool} at {self.at:%Y-%m-%d %H:%M}"
