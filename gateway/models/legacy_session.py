"""A session that a server began with a client of ours, as revisions up to 2025-11-25 have them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models

from connections.models import Connection, McpServer
from connections.sealing import SealedTextField

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class LegacySessionQuerySet(models.QuerySet["LegacySession"]):
    """Reads of sessions."""

    def in_use(self, *, since: datetime) -> LegacySessionQuerySet:
        """Those that were used at that moment or later."""
        return self.filter(last_used_at__gte=since)


class LegacySession(models.Model):
    """Whose it is, and what the server calls it. Written by `gateway.sessions` only.

    It can be used by the same person with the same program through the same grant only, and is no proof of any of them:
    `holder` is the hash of all that it is bound to. G-12, H-01, H-02.
    """

    id_hash = models.CharField(max_length=64, primary_key=True, help_text="SHA-256 of the id that the client has.")
    user: models.ForeignKey[User, User] = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    client_id = models.CharField(max_length=500, blank=True)
    server = models.ForeignKey(McpServer, models.CASCADE, related_name="+")
    connection: models.ForeignKey[Connection | None, Connection | None] = models.ForeignKey(
        Connection, models.CASCADE, null=True, related_name="+"
    )
    holder = models.CharField(max_length=64)
    upstream_id_sealed = SealedTextField()
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(db_index=True)

    objects = LegacySessionQuerySet.as_manager()

    class Meta:
        indexes = (models.Index(fields=("user", "-last_used_at"), name="sessions_of_a_user"),)

    def __str__(self) -> str:
        return f"session of {self.user_id} at {self.server_id}"
