"""The audit record: append-only, each entry authenticated together with the one before it."""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models

from .amendments import AuditCheckpoint as AuditCheckpoint
from .amendments import AuditErasure as AuditErasure
from .events import AuditEvent


class RecordIsFinalError(Exception):
    """Somebody tried to change or delete an audit record."""


class AuditRecordQuerySet(models.QuerySet["AuditRecord"]):
    """Reads and inserts only."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise RecordIsFinalError("audit records are never changed")

    def delete(self) -> NoReturn:
        raise RecordIsFinalError("audit records are never deleted")


class AuditHead(models.Model):
    """The end of the chain; one row, locked by whoever appends."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    sequence = models.PositiveBigIntegerField(default=0)
    mac = models.CharField(max_length=64, blank=True)

    def __str__(self) -> str:
        return f"head at {self.sequence}"


class AuditRecord(models.Model):
    """One thing that happened. Written by `audit.record.record` alone, in the transaction of the change it describes.

    References are plain ids without foreign keys: a record outlives what it speaks of.
    """

    sequence = models.PositiveBigIntegerField(primary_key=True)
    at = models.DateTimeField(db_index=True)
    event = models.CharField(max_length=40, choices=AuditEvent.choices, db_index=True)
    actor = models.CharField(max_length=64, blank=True, db_index=True, help_text="Id of the user, or system.")
    server = models.CharField(max_length=80, blank=True, db_index=True, help_text="Slug of the MCP server.")
    connection = models.CharField(max_length=36, blank=True, db_index=True)
    client = models.CharField(max_length=200, blank=True, help_text="OAuth client or API token that acted.")
    reason = models.CharField(max_length=200, blank=True)
    correlation_id = models.CharField(max_length=64, blank=True, db_index=True)
    details = models.JSONField(default=dict)
    key_id = models.CharField(max_length=12)
    previous_mac = models.CharField(max_length=64, blank=True)
    mac = models.CharField(max_length=64)

    objects = AuditRecordQuerySet.as_manager()

    class Meta:
        ordering = ("-sequence",)

    def __str__(self) -> str:
        return f"{self.sequence} {self.event}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise RecordIsFinalError("audit records are never changed")
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RecordIsFinalError("audit records are never deleted")
