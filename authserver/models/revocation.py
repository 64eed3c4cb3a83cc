"""What ended before its time, for everybody who checks tokens without asking for each."""

from __future__ import annotations

from django.db import models


class Revocation(models.Model):
    """Access tokens that are good by their signature and yet are not.

    `value` is a token's `jti`, or the hex of a family's or service account's id, which stands for all of its tokens.
    """

    value = models.CharField(max_length=64, primary_key=True)
    issued_until = models.DateTimeField(help_text="Tokens issued later are good: a service account goes on.")
    until = models.DateTimeField(db_index=True, help_text="When the last such token has expired by itself.")

    def __str__(self) -> str:
        return self.value


class RevocationEpoch(models.Model):
    """A counter that every revocation increases: whoever sees the number it knows has missed nothing. One row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    number = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"epoch {self.number}"


class UsedAssertion(models.Model):
    """A client assertion that was accepted; its id is accepted no second time while it lives. RFC 7523 §3."""

    id_hash = models.CharField(max_length=64, primary_key=True, help_text="SHA-256 of client id and jti.")
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.id_hash
