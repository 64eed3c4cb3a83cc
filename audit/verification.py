"""Whether the record is whole: the chain from its checkpoint to its head, and the ends that were noted outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain as concatenated

from .amendments import AuditCheckpoint
from .anchors import Anchors
from .chain import BrokenLink, broken_links
from .models import AuditHead, AuditRecord
from .pages import ascending
from .progress import Shown, in_silence
from .seals import checkpoint_holds, erasure_holds


class UnknownRecordError(LookupError):
    """There is no such record to go on after."""


@dataclass(frozen=True, slots=True)
class Span:
    """The part of the chain that is looked at: after one record, up to another.

    Attributes:
        after: The number before the first record; 0 for the beginning.
        after_mac: The code of the record with that number.
        last: The number of the last record.
        last_mac: Its code.
        removed: Records up to this one were removed by retention.
    """

    after: int
    after_mac: str
    last: int
    last_mac: str
    removed: int = 0


def whole_chain() -> Span:
    """Return the span from the newest checkpoint to the head, as both are now."""
    checkpoint = AuditCheckpoint.objects.first()
    head = AuditHead.objects.filter(pk=1).first() or AuditHead()
    start = (checkpoint.sequence, checkpoint.record_mac) if checkpoint else (0, "")
    return Span(*start, head.sequence, head.mac, removed=start[0])


def chain_after(sequence: int) -> Span:
    """Return the span from a record that was verified before to the head.

    Raises:
        UnknownRecordError: It is not there.
    """
    whole = whole_chain()
    if sequence == whole.after:
        return whole
    known = AuditRecord.objects.filter(sequence=sequence).first() if whole.after < sequence <= whole.last else None
    if known is None:
        raise UnknownRecordError(sequence)
    return Span(sequence, known.mac, whole.last, whole.last_mac, removed=whole.removed)


def newest_part(length: int) -> Span:
    """Return the span of at most so many records up to the head; all of them where the one before those is missing."""
    whole = whole_chain()
    try:
        return chain_after(max(whole.after, whole.last - length))
    except UnknownRecordError:
        return whole


def problems(span: Span, *, anchors: Anchors | None = None, shown: Shown = in_silence) -> Iterator[BrokenLink]:
    """Yield every place where the record is not what was written, from the lowest number on.

    Args:
        span: What to look at; what is appended meanwhile lies beyond it.
        anchors: Ends that were noted outside.
        shown: Passes the records through, for example to draw progress.
    """
    noted = anchors or {}
    found = ascending(AuditRecord.objects.filter(sequence__lte=span.last), after=span.after)
    records = shown(found, span.last - span.after, "Verifying")
    links = broken_links(
        records,
        head_sequence=span.last,
        head_mac=span.last_mac,
        after_sequence=span.after,
        after_mac=span.after_mac,
        may_differ=erasure_holds,
        anchors=noted,
    )
    for found_bad in concatenated(_bad_checkpoint(span), links, _cut_off(span, noted), _beyond_the_end()):
        newest = AuditCheckpoint.objects.first()
        if newest is not None and span.removed < newest.sequence >= found_bad.sequence:
            # Retention took out meanwhile what it had verified: what is left begins after its checkpoint.
            yield from problems(whole_chain(), anchors=anchors, shown=shown)
            return
        yield found_bad


def _bad_checkpoint(span: Span) -> Iterator[BrokenLink]:
    checkpoint = AuditCheckpoint.objects.filter(pk=span.removed).first()
    if checkpoint is not None and not checkpoint_holds(checkpoint):
        yield BrokenLink(checkpoint.sequence, "records up to here were removed without a checkpoint of ours")


def _cut_off(span: Span, noted: Anchors) -> Iterator[BrokenLink]:
    """An end that was noted, and is not there any more."""
    newest = max(noted, default=0)
    if newest > max(span.last, _head_sequence()):
        yield BrokenLink(span.last + 1, f"the end of the chain was cut off; record {newest} was noted outside")
    if span.removed and not all(span.after_mac.startswith(mac) for mac in noted.get(span.after, ())):
        yield BrokenLink(span.after, "it is not the record that was noted outside")


def _beyond_the_end() -> Iterator[BrokenLink]:
    """The last record is read before the head: what is written meanwhile moves the head first."""
    last = AuditRecord.objects.order_by("-sequence").values_list("sequence", flat=True).first() or 0
    head = _head_sequence()
    if last > head:
        yield BrokenLink(head + 1, "it stands beyond the end")


def _head_sequence() -> int:
    return AuditHead.objects.filter(pk=1).values_list("sequence", flat=True).first() or 0
