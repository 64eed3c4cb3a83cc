"""Personal API tokens, stored as hashes."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q

from oauthflow.protocol.secret import Secret

PREFIX = "mcp_"


class ApiScope(models.TextChoices):
    """What a program may do on behalf of the person whose token it holds. Public contract, section 4."""

    SERVERS_READ = "servers:read"
    SERVERS_WRITE = "servers:write"
    CONNECTIONS_READ = "connections:read"
    CONNECTIONS_WRITE = "connections:write"
    TOKENS_RELEASE = "tokens:release"
    TOOLS_CALL = "tools:call"
    AUDIT_READ = "audit:read"


def new_api_token() -> Secret:
    """Make a token: `mcp_` and 256 random bits."""
    return Secret(PREFIX + secrets.token_urlsafe(32))


def hash_api_token(token: str) -> str:
    """Return the SHA-256 of a token in hex. A slow hash buys nothing for 256 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    """Reads of API tokens."""

    def valid(self, *, now: datetime) -> ApiTokenQuerySet:
        """Neither revoked nor expired, of a user who is active."""
        return self.filter(
            Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True, user__is_active=True
        )


class ApiToken(models.Model):
    """A personal API token; only its hash is kept. An empty list of scopes gives no rights."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        verbose_name = "API token"

    def __str__(self) -> str:
        return self.name
