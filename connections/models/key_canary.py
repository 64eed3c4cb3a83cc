"""Notices a wrong or missing encryption key before anything is read with it."""

from __future__ import annotations

import uuid

from django.db import models

from ..sealing import SealedTextField


class KeyCanary(models.Model):
    """A sealed value that this site must be able to open at start; one row."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    canary_sealed = SealedTextField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return "key canary"
