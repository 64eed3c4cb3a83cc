"""Which keys the stored secrets were sealed with. The keys themselves are nowhere in the database."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class KeyFingerprint(models.Model):
    """One key that a host of this site seals or has sealed with; see `connections.key_fingerprints`."""

    fingerprint = models.CharField(max_length=12, primary_key=True)
    registered_at = models.DateTimeField(default=timezone.now)
    released_at = models.DateTimeField(
        null=True, blank=True, help_text="When a rotation found nothing that needs this key; empty: it is needed."
    )
    unreadable = models.PositiveIntegerField(default=0, help_text="Values that no key opened at that moment.")

    class Meta:
        ordering = ("registered_at",)

    def __str__(self) -> str:
        return f"key {self.fingerprint}"
