"""Something that works once came a second time: somebody else holds a copy, so all that descends from it ends."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import transaction

from audit.append import appended_last
from audit.events import AuditEvent
from audit.record import record
from oauthflow.flows.mail.queue_notices import tell_program_stopped

from ..models import TokenFamily
from ..protocol.errors import InvalidGrantError
from .end_tokens import end_families

CODE_REPLAYED: Final = "code_replayed"
REFRESH_REUSED: Final = "refresh_reused"
REUSED: Final = frozenset({CODE_REPLAYED, REFRESH_REUSED})


class ReuseError(InvalidGrantError):
    """A used code, or a refresh token older than the last two.

    Raised where nothing may be written yet, since many requests can share one transaction; whoever answers calls
    `end_reused` after it.

    Attributes:
        family_id: What has to end.
        event: What it is recorded as.
        reason: Why, in a word.
    """

    def __init__(self, description: str, *, family_id: UUID, event: AuditEvent, reason: str) -> None:
        super().__init__(description)
        self.family_id, self.event, self.reason = family_id, event, reason


def end_reused(reuse: ReuseError, *, now: datetime) -> None:
    """End the family, tell the person, and record it; doing it again changes nothing.

    Spec: RFC 6749 §4.1.2; RFC 9700 §4.14.2. X-01, X-04, AS06, AS07.
    """
    with transaction.atomic(), appended_last():
        families = TokenFamily.objects.filter(pk=reuse.family_id)
        if not end_families(families, reason=reuse.reason, now=now):
            return
        family = families.select_related("client").get()
        tell_program_stopped(family.user_id, family=family.pk.hex, now=now)
        record(
            reuse.event,
            actor=family.user_id,
            client=family.client.client_id,
            reason=reuse.reason,
            details={"resource": family.resource, "generation": family.generation},
        )
