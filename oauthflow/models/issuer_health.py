"""How an authorization server fares with our refreshes: shared by all processes, written only in trouble."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.db import models

from oauthflow.protocol.codes import Code

CLIENT_CODES: Final = frozenset({Code.INVALID_CLIENT, Code.UNAUTHORIZED_CLIENT})
"""With which a server says that it does not know us, or not for this."""


class IssuerHealthQuerySet(models.QuerySet["IssuerHealth"]):
    """The three troubles: two need an administrator, the third ends by itself."""

    def guarded(self, *, now: datetime) -> IssuerHealthQuerySet:
        """Return those that refuse everybody's grants, which is not believed."""
        return self.filter(guarded_until__gt=now)

    def refusing_us(self) -> IssuerHealthQuerySet:
        """Return those that do not know us as their client."""
        return self.filter(reason__in=CLIENT_CODES)

    def away(self) -> IssuerHealthQuerySet:
        """Return those that do not answer."""
        return self.filter(reason=Code.TEMPORARILY_UNAVAILABLE)


class IssuerHealth(models.Model):
    """Trouble with one issuer, or with us as one of its clients. Written by `flows.refresh.health`."""

    key = models.CharField(max_length=64, primary_key=True, help_text="SHA-256 of issuer and client id.")
    issuer = models.CharField(max_length=1000)
    client_id = models.CharField(max_length=500, blank=True, help_text="Empty: whoever we are there.")
    failures = models.PositiveIntegerField(default=0)
    failing_since = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=40, blank=True, help_text="Why requests are held back: one of our codes.")
    paused_until = models.DateTimeField(null=True, blank=True, help_text="Then one request may try.")
    reopened_at = models.DateTimeField(null=True, blank=True, help_text="After a pause; the way widens from then on.")
    refusals = models.PositiveIntegerField(default=0, help_text="Grants that were refused since refused_since.")
    refused_since = models.DateTimeField(null=True, blank=True)
    guarded_until = models.DateTimeField(null=True, blank=True, help_text="Until then no refusal ends a grant.")
    believed_until = models.DateTimeField(
        null=True, blank=True, help_text="Until then every refusal ends its grant: an administrator said so."
    )

    objects = IssuerHealthQuerySet.as_manager()

    class Meta:
        verbose_name = "trouble with a sign-in service"
        verbose_name_plural = "troubles with sign-in services"

    def __str__(self) -> str:
        return f"{self.issuer} {self.client_id}".strip()

    def is_guarded(self, *, now: datetime) -> bool:
        """Whether refusals of its grants are not believed."""
        return self.guarded_until is not None and self.guarded_until > now

    def is_believed(self, *, now: datetime) -> bool:
        """Whether an administrator said that each of them is to be believed."""
        return self.believed_until is not None and self.believed_until > now
