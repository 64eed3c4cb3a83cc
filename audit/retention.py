"""Remove old records and leave a chain that can still be verified. K08."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from django.db import IntegrityError, models, transaction

from .amendments import AuditCheckpoint, AuditErasure
from .anchors import Anchors
from .chain import BrokenLink, current_key, key_id
from .guard import allow
from .models import AuditRecord
from .progress import Shown, in_silence
from .seals import checkpoint_seal
from .verification import Span, problems, whole_chain

_BATCH: Final = 5000


class BrokenChainError(Exception):
    """Nothing is removed from a record that does not hold: it would be removing evidence."""

    def __init__(self, found: BrokenLink) -> None:
        super().__init__(f"the chain is broken at record {found.sequence}: {found.problem}")
        self.found = found


def remove_older(*, before: datetime, now: datetime, anchors: Anchors | None = None, shown: Shown = in_silence) -> int:
    """Remove the records that were written before an instant; return how many.

    What is to go is verified first. Then a sealed checkpoint is committed, from which verification begins from then on,
    and the records below it are deleted in batches; a run that was killed is finished by the next.

    Args:
        before: Aware UTC; records of this instant and later stay.
        now: Aware UTC.
        anchors: Ends that were noted outside.
        shown: Draws progress while records are verified, and while they are removed.

    Raises:
        BrokenChainError: The records do not hold. Nothing is removed.
    """
    whole = whole_chain()
    last = _last_before(before, whole=whole)
    if last is not None:
        span = Span(whole.after, whole.after_mac, last.sequence, last.mac, removed=whole.removed)
        first_problem = next(problems(span, anchors=anchors, shown=shown), None)
        if first_problem is not None:
            raise BrokenChainError(first_problem)
        _set_checkpoint(last, removed=last.sequence - whole.after, now=now)
    below = _below_checkpoint()
    return sum(1 for _ in shown(_delete(below), below.count(), "Removing"))


def countable(*, before: datetime) -> int:
    """Return how many records `remove_older` would take out."""
    whole = whole_chain()
    last = _last_before(before, whole=whole)
    return last.sequence - whole.after if last else 0


def _last_before(before: datetime, *, whole: Span) -> AuditRecord | None:
    """The clocks of several hosts may differ a little: everything up to the first record that stays goes."""
    present = AuditRecord.objects.filter(sequence__gt=whole.after, sequence__lte=whole.last).order_by("sequence")
    kept = present.filter(at__gte=before).first()
    gone = present.filter(sequence__lt=kept.sequence) if kept else present
    return gone.last()


def _set_checkpoint(last: AuditRecord, *, removed: int, now: datetime) -> None:
    key = current_key()
    checkpoint = AuditCheckpoint(
        sequence=last.sequence, record_mac=last.mac, removed=removed, at=now, key_id=key_id(key)
    )
    checkpoint.seal = checkpoint_seal(checkpoint, key=key)
    try:
        with transaction.atomic():
            checkpoint.save(force_insert=True)
    except IntegrityError:
        return  # another process has just set the same one


def _below_checkpoint() -> models.QuerySet[AuditRecord]:
    checkpoint = AuditCheckpoint.objects.first()
    return models.QuerySet(AuditRecord).filter(sequence__lte=checkpoint.sequence if checkpoint else 0)


def _delete(below: models.QuerySet[AuditRecord]) -> Iterator[int]:
    """Delete records in batches; yield a number for each that went, and none for what another run took meanwhile."""
    while numbers := list(below.order_by("sequence").values_list("sequence", flat=True)[:_BATCH]):
        with transaction.atomic():
            allow("removes")
            removed, _ = below.filter(sequence__lte=numbers[-1]).delete()
            AuditErasure.objects.filter(sequence__lte=numbers[-1]).delete()
        yield from numbers[:removed]
