"""Hand events on to carriers that are sent to: each event once to each carrier, in order, however many workers run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from django.db import transaction

from oauthflow.models import CarrierPosition, Event

_PAGE: Final = 500


def hand_on(carrier: CarrierPosition.Carrier, *, keep: Callable[[Sequence[Event]], None]) -> int:
    """Give a carrier the events that it has not had yet; return how many.

    Args:
        carrier: Which.
        keep: Writes what has to be sent. Called inside the transaction that moves the carrier on, so that nothing is
            lost and nothing comes twice.
    """
    count = 0
    while events := _next_page(carrier, keep=keep):
        count += events
    return count


def begin(carrier: CarrierPosition.Carrier) -> int:
    """Return how far a carrier has come; a new one begins with what happens from now on."""
    found, _ = CarrierPosition.objects.get_or_create(
        carrier=carrier, defaults={"cursor": Event.objects.newest_cursor()}
    )
    return found.cursor


def _next_page(carrier: CarrierPosition.Carrier, *, keep: Callable[[Sequence[Event]], None]) -> int:
    before = begin(carrier)
    events = list(Event.objects.after(before)[:_PAGE])
    if not events:
        return 0
    with transaction.atomic():
        still_there = CarrierPosition.objects.filter(carrier=carrier, cursor=before)
        if not still_there.update(cursor=events[-1].cursor):
            return 0  # another worker has these
        keep(events)
    return len(events)
