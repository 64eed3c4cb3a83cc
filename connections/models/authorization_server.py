"""What was discovered: authorization servers, and what each MCP server says of itself."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import models

from oauthflow.protocol.metadata import AuthorizationServerMetadata

from .mcp_server import McpServer


class AuthorizationServer(models.Model):
    """Metadata of one authorization server as it was fetched for one MCP server. Written by `flows.discover`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    issuer = models.CharField(max_length=1000, unique=True)
    document = models.JSONField(default=dict)
    source_url = models.CharField(max_length=1000, blank=True, help_text="Which address answered.")
    fetched_at = models.DateTimeField()

    class Meta:
        ordering = ("issuer",)

    def __str__(self) -> str:
        return self.issuer

    @property
    def metadata(self) -> AuthorizationServerMetadata:
        """The stored document, read again."""
        return AuthorizationServerMetadata.from_document(self.document)


class ServerDiscovery(models.Model):
    """What the last discovery of one MCP server found, or how it failed. Written by `flows.discover`."""

    server = models.OneToOneField(McpServer, models.CASCADE, primary_key=True, related_name="discovery")
    authorization_server = models.ForeignKey(AuthorizationServer, models.SET_NULL, null=True, blank=True)
    issuer = models.CharField(max_length=1000, blank=True, help_text="The issuer that is approved and in use.")
    new_issuer = models.CharField(max_length=1000, blank=True, help_text="An issuer that waits for approval.")
    resource = models.CharField(max_length=1000, blank=True, help_text="As its metadata spells it; empty: none given.")
    resource_document = models.JSONField(default=dict)
    scopes_supported = models.JSONField(null=True, blank=True)
    challenge_scope = models.CharField(max_length=1000, blank=True)
    asks_dpop = models.BooleanField(
        default=False, db_default=False, help_text="Wants tokens that are bound to a key (RFC 9449)."
    )
    is_legacy = models.BooleanField(default=False, help_text="Found by the rules of revision 2025-03-26.")
    fetched_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    failed_at = models.DateTimeField(null=True, blank=True)
    failure_code = models.CharField(max_length=40, blank=True)
    failure_detail = models.CharField(max_length=500, blank=True)

    class Meta:
        verbose_name_plural = "server discoveries"

    def __str__(self) -> str:
        return f"{self.server_id}: {self.issuer or self.failure_code}"

    def is_fresh(self, *, now: datetime) -> bool:
        """Whether the cached metadata may be used without asking again."""
        return bool(self.authorization_server_id and self.expires_at and self.expires_at > now)
