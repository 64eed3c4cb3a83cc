"""`manage.py audit_verify`: find out whether anybody changed the audit record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.amendments import AuditErasure
from audit.anchors import Anchors, our_anchors, read_anchors
from audit.models import AuditRecord
from audit.progress import drawn
from audit.verification import Span, UnknownRecordError, chain_after, problems, whole_chain


class Command(BaseCommand):
    help = (
        "Verify the chain of audit records and compare it with what was noted outside the database; exits with 1 and"
        " names the first bad record where it does not hold."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--after", type=int, metavar="N", help="Go on after record N, which was verified before.")
        parser.add_argument(
            "--anchors",
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help="Compare with this file too: audit-head.log of another host, or a log of this site. Can be repeated.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        anchors = _anchors(options["anchors"])
        span = _span(options["after"])
        seen = _Seen(span.after)
        found = problems(span, anchors=anchors, shown=lambda *what: seen.through(drawn(*what)))
        try:
            first = next(found, None)
        except KeyboardInterrupt as error:
            raise CommandError(
                f"Stopped; all holds so far. Go on with: audit_verify --after {max(span.after, seen.last - 1)}",
                returncode=130,
            ) from error
        if first is not None:
            raise CommandError(f"The chain is broken at record {first.sequence}: {first.problem}.")
        removed = whole_chain().removed  # retention may have taken some meanwhile
        last = max(span.last, removed)
        self.stdout.write(f"The chain holds: {last - max(span.after, removed)} records, the last is {last}.")
        if removed:
            self.stdout.write(f"Records up to {removed} were removed because of their age.")
        if erased := AuditErasure.objects.count():
            self.stdout.write(f"In {erased} records personal words were erased.")
        if anchors:
            since = span.after if span.removed else span.after + 1  # the checkpoint knows the last that was removed
            compared = sum(sequence >= since for sequence in anchors)
            self.stdout.write(f"{compared} ends that were noted outside agree.")


class _Seen:
    """Remembers the last record that went through."""

    def __init__(self, last: int) -> None:
        self.last = last

    def through(self, records: Iterator[AuditRecord]) -> Iterator[AuditRecord]:
        for entry in records:
            self.last = entry.sequence
            yield entry


def _span(after: int | None) -> Span:
    try:
        return whole_chain() if not after else chain_after(after)
    except UnknownRecordError as error:
        raise CommandError(f"There is no record {after} to go on after.") from error


def _anchors(files: list[Path]) -> Anchors:
    """Each file is read once: it may be a pipe."""
    try:
        noted = [our_anchors(), *(read_anchors([file]) for file in files)]
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be read: {error.strerror}.") from error
    for file, ends in zip(files, noted[1:], strict=True):
        if not ends:
            raise CommandError(f"{file} holds no end of the audit record to compare with.")
    return {
        sequence: frozenset().union(*(ends.get(sequence, ()) for ends in noted)) for sequence in set().union(*noted)
    }
