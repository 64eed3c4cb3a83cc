"""What a sign-in service still has to be told to end."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

from django.db import models
from django.db.models import Exists, OuterRef, Q

from ..sealing import SealedTextField

SECRETS: Final = (
    "refresh_token_sealed", "access_token_sealed", "client_secret_sealed", "registration_access_token_sealed",
)  # fmt: skip


class RevocationQuerySet(models.QuerySet["Revocation"]):
    """Reads of the outbox."""

    def waiting(self) -> RevocationQuerySet:
        """Those that are not over."""
        return self.filter(next_attempt_at__isnull=False)

    def due(self, *, now: datetime) -> RevocationQuerySet:
        """Those that should be sent by now, the longest due first.

        A registration is deleted after the grants that were given to it: revoking them takes its credentials.
        """
        grants = Revocation.objects.waiting().filter(
            kind=Revocation.Kind.GRANT, issuer=OuterRef("issuer"), client_id=OuterRef("client_id")
        )
        still_needed = Q(Exists(grants), kind=Revocation.Kind.REGISTRATION)
        return self.filter(next_attempt_at__lte=now).exclude(still_needed).order_by("next_attempt_at")

    def over(self, *, before: datetime) -> RevocationQuerySet:
        """Those that ended before that instant."""
        return self.filter(finished_at__lt=before)


class Revocation(models.Model):
    """The tokens of a grant, or a registration, that ended here and has to end at its service.

    It holds all that the request needs, because connection, registration and server may be gone. Secrets are erased as
    soon as it is over. `next_attempt_at` is the queue. Written by `connections.revocations` and
    `oauthflow.flows.revocation_outbox` only.

    Spec: RFC 7009 §2.1, RFC 7592 §2.3.
    """

    class Kind(models.TextChoices):
        GRANT = "grant", "Grant"
        REGISTRATION = "registration", "Registration"

    class Outcome(models.TextChoices):
        REVOKED = "revoked", "Ended there"
        UNSUPPORTED = "unsupported", "Not supported there"
        GIVEN_UP = "given_up", "Given up"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=12, choices=Kind.choices)
    server = models.CharField(max_length=80, help_text="Slug of the MCP server, which may be gone.")
    connection_id = models.UUIDField(null=True, blank=True, db_index=True, help_text="May be gone as well.")
    reason = models.CharField(max_length=200, blank=True)
    issuer = models.CharField(max_length=1000)
    endpoint = models.CharField(max_length=1000, help_text="As it was known when the grant was made.")
    client_id = models.CharField(max_length=500)
    auth_method = models.CharField(max_length=24)
    refresh_token_sealed = SealedTextField()
    access_token_sealed = SealedTextField()
    client_secret_sealed = SealedTextField()
    registration_access_token_sealed = SealedTextField()
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True, db_index=True, help_text="Empty: it is over.")
    give_up_at = models.DateTimeField(help_text="A try that fails from then on was the last one.")
    last_error = models.CharField(max_length=40, blank=True, help_text="Why the last try failed: one of our codes.")
    outcome = models.CharField(max_length=20, blank=True, choices=Outcome.choices)
    finished_at = models.DateTimeField(null=True, blank=True, db_index=True)
    created_at = models.DateTimeField()

    objects = RevocationQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.kind} at {self.issuer}"
