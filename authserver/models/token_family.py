"""What is issued from one authorization code, and the code itself."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q

from .consent import Consent
from .mcp_client import McpClient

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class Subject(models.Model):
    """What a person is called in our tokens: random, kept for ever, and no client id can look like it. AS19."""

    user: models.OneToOneField[User, User] = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="token_subject"
    )
    sub = models.CharField(max_length=48, unique=True, editable=False)

    def __str__(self) -> str:
        return self.sub


class TokenFamilyQuerySet(models.QuerySet["TokenFamily"]):
    """Reads of families."""

    def standing(self, *, now: datetime) -> TokenFamilyQuerySet:
        """Not ended, and not past their last day."""
        return self.filter(ended_at__isnull=True, expires_at__gt=now)


def clients_acting_for(people: Collection[int], now: datetime) -> int:
    """Count the clients that hold tokens of one of these people."""
    return TokenFamily.objects.standing(now=now).filter(user__in=people).values("client").distinct().count()


class TokenFamily(models.Model):
    """All tokens that descend from one authorization code. Ending it ends them all.

    The newest refresh token and the one before it are kept as hashes; `authserver.protocol.opaque` tells older ones
    from invented ones. `successor_sealed` holds the answer to the last refresh, under a key that only the refresh token
    presented then gives.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    client = models.ForeignKey(McpClient, models.CASCADE, related_name="token_families")
    user: models.ForeignKey[User, User] = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="token_families"
    )
    consent = models.ForeignKey(Consent, models.CASCADE, related_name="token_families")
    subject = models.CharField(max_length=48)
    resource = models.CharField(max_length=1000)
    scope = models.CharField(max_length=1000, blank=True)
    is_refreshable = models.BooleanField(default=False)
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True, help_text="The last moment of a refresh.")
    marking_key = models.CharField(max_length=64, editable=False)
    refresh_hash = models.CharField(max_length=64, blank=True, editable=False)
    previous_hash = models.CharField(max_length=64, blank=True, editable=False)
    successor_sealed = models.TextField(blank=True, editable=False)
    generation = models.PositiveIntegerField(default=0)
    rotated_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_reason = models.CharField(max_length=40, blank=True)

    objects = TokenFamilyQuerySet.as_manager()

    class Meta:
        ordering = ("-issued_at",)
        verbose_name = "token family"
        verbose_name_plural = "token families"
        constraints = (
            models.CheckConstraint(
                name="only_refreshable_families_hold_refresh_tokens",
                condition=Q(is_refreshable=True) | Q(refresh_hash=""),
            ),
        )

    def __str__(self) -> str:
        return f"{self.client} for {self.user}, since {self.issued_at:%Y-%m-%d}"


class AuthorizationCode(models.Model):
    """The code that a family begins with: its hash, and what the token request has to match. RFC 6749 §4.1.3."""

    family = models.OneToOneField(TokenFamily, models.CASCADE, primary_key=True, related_name="code")
    code_hash = models.CharField(max_length=64, editable=False)
    redirect_uri = models.CharField(max_length=2048, help_text="As the authorization request had it.")
    code_challenge = models.CharField(max_length=43, help_text="S256.")
    browser_hash = models.CharField(max_length=64, blank=True, editable=False, help_text="The session that consented.")
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"code of {self.family_id}"
