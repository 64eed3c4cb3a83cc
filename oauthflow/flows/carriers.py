"""Hand events on to carriers that are sent to: each event once to each carrier, in order, however many workers run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from django.db import transaction

from oauthflow.models import CarrierPosition, Event
from oauthflow.models.event import EventQuerySet

_PAGE: Final = 500


def hand_on(
    carrier: CarrierPosition.Carrier,
    *,
    concerning: Callable[[], EventQuerySet],
    keep: Callable[[Sequence[Event]], None],
) -> int:
    """Give a carrier the events that it has not had yet; return how many concerned it.

    Args:
        carrier: Which.
        concerning: Returns the events that the carrier may have to tell; the others are passed over unread.
        keep: Writes what has to be sent. Called inside the transaction that moves the carrier on, so that nothing is
            lost and nothing comes twice.
    """
    count = 0
    before = begin(carrier)
    # Read before anything is asked about the carrier: who wants events from now on misses none that is newer.
    newest = Event.objects.newest_cursor()
    while before < newest:
        events = list(concerning().after(before).filter(cursor__lte=newest)[:_PAGE])
        reached = events[-1].cursor if len(events) == _PAGE else newest
        with transaction.atomic():
            still_there = CarrierPosition.objects.filter(carrier=carrier, cursor=before)
            if not still_there.update(cursor=reached):
                return count  # another worker has these
            keep(events)
        before = reached
        count += len(events)
    return count


def begin(carrier: CarrierPosition.Carrier) -> int:
    """Return how far a carrier has come; a new one begins with what happens from now on."""
    known = CarrierPosition.objects.filter(carrier=carrier).first()
    if known is None:
        newest = Event.objects.newest_cursor()
        known, _ = CarrierPosition.objects.get_or_create(carrier=carrier, defaults={"cursor": newest})
    return known.cursor
