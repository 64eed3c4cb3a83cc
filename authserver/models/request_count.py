"""How often something was asked for in one stretch of time."""

from __future__ import annotations

from django.db import models


class RequestCount(models.Model):
    """One counter: what, by whom, in which stretch, as one hash. See `authserver.rate_limit`."""

    key = models.CharField(max_length=64, primary_key=True)
    count = models.PositiveIntegerField(default=0)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.count}"
