"""Read many records a page at a time: whoever stops in the middle leaves no cursor open behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .models import AuditRecord, AuditRecordQuerySet

_PAGE: Final = 1000


def ascending(found: AuditRecordQuerySet, *, after: int = 0) -> Iterator[AuditRecord]:
    """Yield the records with a number above `after`, from the lowest on."""
    ordered = found.order_by("sequence")
    page = list(ordered.filter(sequence__gt=after)[:_PAGE])
    while page:
        yield from page
        page = list(ordered.filter(sequence__gt=page[-1].sequence)[:_PAGE])
