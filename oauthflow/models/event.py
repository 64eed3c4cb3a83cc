"""What happened to connections, in the order in which it became true: the one source of all five carriers."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models
from django.db.models import Q

from connections.models import Connection


class EventType(models.TextChoices):
    """The ten events by their names on the wire. Public contract, section 6; in GraphQL, the names of the members."""

    AUTHORIZATION_REQUIRED = "authorization.required"
    AUTHORIZATION_COMPLETED = "authorization.completed"
    AUTHORIZATION_FAILED = "authorization.failed"
    TOKEN_REFRESHED = "token.refreshed"
    TOKEN_EXPIRING_SOON = "token.expiring_soon"
    TOKEN_REFRESH_FAILED = "token.refresh_failed"
    REAUTHORIZATION_REQUIRED = "reauthorization.required"
    CREDENTIALS_REVOKED = "credentials.revoked"
    CLIENT_SECRET_EXPIRING = "client_secret.expiring"
    ISSUER_CHANGED = "issuer.changed"


class EventQuerySet(models.QuerySet["Event"]):
    """Reads of events."""

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> EventQuerySet:
        """Those of the user's own connections, and of shared ones that the user sees at this moment. Z01."""
        shared = Connection.objects.visible_to(user).filter(user__isnull=True).values("pk")
        mine = Q(user_id=user.pk) if user.is_authenticated else Q(pk__in=[])
        return self.filter(mine | Q(user_id__isnull=True, connection_id__in=shared))

    def after(self, cursor: int) -> EventQuerySet:
        """Those that became true later than the one of that cursor, oldest first."""
        return self.filter(cursor__gt=cursor).order_by("cursor")

    def newest_cursor(self) -> int:
        """The cursor of the last event; 0 where there never was one."""
        return self.order_by("-cursor").values_list("cursor", flat=True).first() or 0


class Event(models.Model):
    """One thing that happened to one connection. Written by `oauthflow.events` alone, never changed.

    References are plain ids without foreign keys: an event outlives what it speaks of. There is no column that could
    hold a token, a code, a state or a verifier.

    Cursors grow in the order of commits, because they are drawn while the end of the audit chain is locked: who has
    read up to a cursor never misses an event that is committed later with a smaller one.
    """

    cursor = models.BigAutoField(primary_key=True)
    event_type = models.CharField(max_length=40, choices=EventType.choices)
    connection_id = models.UUIDField(db_index=True)
    user_id = models.BigIntegerField(null=True, blank=True, db_index=True, help_text="Empty: the connection is shared.")
    server = models.CharField(max_length=80, help_text="Slug of the MCP server.")
    message = models.CharField(max_length=300, help_text="One sentence of ours.")
    code = models.CharField(max_length=40, blank=True, help_text="One of our codes, where there is a reason.")
    requires_user_action = models.BooleanField(default=False)
    request_id = models.UUIDField(null=True, blank=True, help_text="The authorization request that waits for a person.")
    created_at = models.DateTimeField()

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ("cursor",)

    def __str__(self) -> str:
        return f"{self.cursor} {self.event_type}"

    @classmethod
    def over(cls, *, before: datetime) -> EventQuerySet:
        """Events older than that instant but the last of all: its cursor says how far the numbers have come.

        Found by walking from the oldest on, because the table has no index on times.
        """
        kept = cls.objects.filter(created_at__gte=before).order_by("cursor").values_list("cursor", flat=True).first()
        return cls.objects.filter(cursor__lt=cls.objects.newest_cursor() if kept is None else kept)
