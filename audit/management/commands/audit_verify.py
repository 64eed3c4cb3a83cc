"""`manage.py audit_verify`: find out whether anybody changed the audit record."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.chain import broken_links
from audit.models import AuditHead, AuditRecord
from audit.progress import with_progress


class Command(BaseCommand):
    help = "Verify the chain of audit records; exits with 1 and names the first bad record where it does not hold."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--after", type=int, default=0, metavar="N", help="Go on after record N, which was verified before."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        after = options["after"]
        head = AuditHead.objects.filter(pk=1).first() or AuditHead()
        verified = _verified(after, head=head)
        seen = _Seen(after)
        problems = broken_links(
            seen.through(_records(after, head=head)),
            head_sequence=head.sequence,
            head_mac=head.mac,
            after_sequence=after,
            after_mac=verified,
        )
        try:
            first = next(problems, None)
        except KeyboardInterrupt as error:
            raise CommandError(
                f"Stopped; all holds so far. Go on with: audit_verify --after {max(after, seen.last - 1)}",
                returncode=130,
            ) from error
        if first is not None:
            raise CommandError(f"The chain is broken at record {first.sequence}: {first.problem}.")
        _refuse_records_beyond_the_end()
        self.stdout.write(f"The chain holds: {head.sequence - after} records, the last is {head.sequence}.")


class _Seen:
    """Remembers the last record that went through."""

    def __init__(self, last: int) -> None:
        self.last = last

    def through(self, records: Iterator[AuditRecord]) -> Iterator[AuditRecord]:
        for entry in records:
            self.last = entry.sequence
            yield entry


def _refuse_records_beyond_the_end() -> None:
    """The last record is read before the head: what is written meanwhile moves the head first."""
    last = AuditRecord.objects.order_by("-sequence").values_list("sequence", flat=True).first() or 0
    head = AuditHead.objects.filter(pk=1).first() or AuditHead()
    if last > head.sequence:
        raise CommandError(f"The chain is broken at record {head.sequence + 1}: it stands beyond the end.")


def _verified(after: int, *, head: AuditHead) -> str:
    if not after:
        return ""
    known = AuditRecord.objects.filter(sequence=after).first() if 0 < after <= head.sequence else None
    if known is None:
        raise CommandError(f"There is no record {after} to go on after.")
    return known.mac


def _records(after: int, *, head: AuditHead) -> Iterator[AuditRecord]:
    """Without those that are added while we look: the head was read before."""
    found = AuditRecord.objects.filter(sequence__gt=after, sequence__lte=head.sequence).order_by("sequence")
    return with_progress(
        found.iterator(chunk_size=1000), total=head.sequence - after, label="Verifying", stream=sys.stderr
    )
