"""E-mail: what waits to be sent to whom, how often people want it, and which warnings were given."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models

_MONDAY_MORNING_HOUR: Final = 7


class MailPreference(models.Model):
    """How often a person wants e-mail; who has no row gets it at once."""

    class Rhythm(models.TextChoices):
        IMMEDIATELY = "immediately", "At once, when something needs me"
        WEEKLY = "weekly", "Once a week, what needs me and what ends soon"
        OFF = "off", "Never"

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="+")
    rhythm = models.CharField(max_length=12, choices=Rhythm.choices, default=Rhythm.IMMEDIATELY)
    digest_due_at = models.DateTimeField(null=True, blank=True, db_index=True, help_text="Empty: none is wanted.")

    def __str__(self) -> str:
        return f"{self.user_id}: {self.rhythm}"

    @classmethod
    def rhythm_of(cls, user: User) -> Rhythm:
        """Return what a person chose."""
        found = cls.objects.filter(user=user).first()
        return cls.Rhythm(found.rhythm) if found else cls.Rhythm.IMMEDIATELY

    @classmethod
    def choose(cls, user: User, rhythm: Rhythm, *, now: datetime) -> None:
        """Keep what a person chooses; what waits for them under the old choice is not sent any more."""
        due = next_digest_after(now) if rhythm == cls.Rhythm.WEEKLY else None
        cls.objects.update_or_create(user=user, defaults={"rhythm": rhythm, "digest_due_at": due})
        if rhythm != cls.Rhythm.IMMEDIATELY:
            Notice.objects.filter(user=user, next_attempt_at__isnull=False).update(next_attempt_at=None)


class Notice(models.Model):
    """One thing that a person is told by e-mail, once. `next_attempt_at` is the queue; empty: sent, or true no more.

    The address stays with the account. There is no column that could hold a token, a code, a state or a verifier.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    subject = models.CharField(max_length=200, help_text="What it is about; the same is not told again for a day.")
    event_type = models.CharField(max_length=40)
    connection_id = models.UUIDField(null=True, blank=True)
    webhook_id = models.UUIDField(null=True, blank=True)
    request_id = models.UUIDField(null=True, blank=True)
    server = models.CharField(max_length=80, blank=True, help_text="Slug.")
    for_administrators = models.BooleanField(
        default=False, help_text="Whether it is repaired on the server's own page."
    )
    message = models.CharField(max_length=300, help_text="One sentence of ours.")
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True, db_index=True)
    give_up_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        indexes = (models.Index(fields=("user", "subject")),)

    def __str__(self) -> str:
        return f"{self.event_type} to {self.user_id}"


class GivenWarning(models.Model):
    """A warning that was given ahead of an end, so that nobody gives it twice."""

    key = models.CharField(max_length=200, primary_key=True)
    ends_at = models.DateTimeField(db_index=True, help_text="What it warned of; afterwards this row is not needed.")

    def __str__(self) -> str:
        return self.key


def next_digest_after(now: datetime) -> datetime:
    """Return the next Monday at 07:00 UTC."""
    morning = now.replace(hour=_MONDAY_MORNING_HOUR, minute=0, second=0, microsecond=0)
    monday = morning + timedelta(days=-now.weekday() % 7)
    return monday if monday > now else monday + timedelta(days=7)
