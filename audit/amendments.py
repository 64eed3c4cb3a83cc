"""What may be taken out of the record, sealed so that nobody without an audit key can take out anything else."""

from __future__ import annotations

from django.db import models


class AuditCheckpoint(models.Model):
    """Where the chain begins since older records were removed: number and code of the last one that is gone.

    Written by `audit.retention` alone. The database refuses to delete a record that no checkpoint covers.
    """

    sequence = models.PositiveBigIntegerField(primary_key=True, help_text="The last record that was removed.")
    record_mac = models.CharField(max_length=64)
    removed = models.PositiveBigIntegerField(help_text="How many records were removed with this checkpoint.")
    at = models.DateTimeField()
    key_id = models.CharField(max_length=12)
    seal = models.CharField(max_length=64)

    class Meta:
        ordering = ("-sequence",)

    def __str__(self) -> str:
        return f"removed up to {self.sequence}"


class AuditErasure(models.Model):
    """Vouches for a record whose personal words were erased: its content is other than its code says.

    Written by `audit.erasure` alone. The database refuses to change a record that has none.
    """

    sequence = models.PositiveBigIntegerField(primary_key=True)
    at = models.DateTimeField()
    key_id = models.CharField(max_length=12)
    seal = models.CharField(max_length=64)

    class Meta:
        ordering = ("sequence",)

    def __str__(self) -> str:
        return f"words erased in {self.sequence}"
