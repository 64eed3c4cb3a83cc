"""Erase what people have typed from the record of what they did, and leave a chain that can still be verified. K08.

A record names people by the id of their account and nothing else, so that deleting the account leaves a number. What
people type themselves does get in: the reason for a disconnection, the name of an API token, the label of a
connection. These words are blanked in place; the code of the record stays, and a sealed erasure vouches for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from django.db import models, transaction
from django.db.models import Max, Min, Q

from .amendments import AuditErasure
from .chain import current_key, key_id
from .events import AuditEvent
from .guard import allow
from .models import AuditRecord
from .progress import Shown, in_silence
from .seals import erasure_seal

PERSONAL_DETAILS: Final = frozenset({"label", "token", "user"})
"""Details that may hold words of a person."""

_OF_CALLS: Final = frozenset({"target"})
"""What a program read: the address of a resource may name a person or their file."""

_CODE: Final = re.compile(r"[a-z][a-z0-9_]*")
_OUR_REASONS: Final = frozenset({"deleted", "disconnected", "user_deactivated"})
"""Why a grant was revoked, where nobody typed it."""

_BATCH: Final = 1000


def erase_words(user_id: str, *, connections: Iterable[str] = (), now: datetime, shown: Shown = in_silence) -> int:
    """Blank the words of a person, and words about them, in all records; return how many records changed.

    Args:
        user_id: The id of the account, which may be deleted already.
        connections: Ids of connections of this person that still exist.
        now: Aware UTC.
        shown: Draws progress, batch by batch.
    """
    theirs = AuditRecord.objects.filter(actor=user_id, connection__gt="", event__startswith="authorization.")
    concerned = {*connections, *theirs.order_by().values_list("connection", flat=True).distinct()}
    wanted = Q(actor=user_id) | Q(connection__in=concerned) | Q(details__user=user_id)
    # Batches by number, though most records are somebody else's: so it can be told how far it is.
    ends = AuditRecord.objects.aggregate(first=Min("sequence", default=1), last=Max("sequence", default=0))
    begins = range(ends["first"], ends["last"] + 1, _BATCH)
    return sum(
        _erase(AuditRecord.objects.filter(wanted, sequence__gte=begin, sequence__lt=begin + _BATCH), now=now)
        for begin in shown(begins, len(begins), "Erasing")
    )


def _erase(entries: Iterable[AuditRecord], *, now: datetime) -> int:
    spoken = [entry for entry in entries if _without_words(entry)]
    if spoken:
        with transaction.atomic():
            allow("erases")
            for entry in spoken:
                _write(entry, now=now)
    return len(spoken)


def _without_words(entry: AuditRecord) -> bool:
    """Blank the words of a record in memory; say whether there were any. Codes of ours are no words of a person."""
    before = (entry.client, entry.reason, entry.details)
    entry.client = entry.client if entry.event.startswith("client.") else ""  # an OAuth client id, not a name
    entry.reason = entry.reason if _is_ours(entry) else ""
    personal = PERSONAL_DETAILS | _OF_CALLS if entry.event == AuditEvent.TOOL_CALLED else PERSONAL_DETAILS
    entry.details = {name: said for name, said in entry.details.items() if name not in personal}
    return before != (entry.client, entry.reason, entry.details)


def _is_ours(entry: AuditRecord) -> bool:
    """Whether the reason of a record is a code; people type theirs for a disconnection, and it may look like one."""
    if entry.event == AuditEvent.CREDENTIALS_REVOKED:
        return entry.reason in _OUR_REASONS
    return _CODE.fullmatch(entry.reason) is not None


def _write(entry: AuditRecord, *, now: datetime) -> None:
    key = current_key()
    erasure = AuditErasure(sequence=entry.sequence, at=now, key_id=key_id(key))
    erasure.seal = erasure_seal(erasure, entry, key=key)
    erasure.save()
    models.QuerySet(AuditRecord).filter(pk=entry.pk).update(
        client=entry.client, reason=entry.reason, details=entry.details
    )
