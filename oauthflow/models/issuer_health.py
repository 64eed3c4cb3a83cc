"""How an authorization server fares with our refreshes: shared by all processes, written only in trouble."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


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

    objects: ClassVar[models.Manager[IssuerHealth]] = models.Manager()

    def __str__(self) -> str:
        return f"{self.issuer} {self.client_id}".strip()
