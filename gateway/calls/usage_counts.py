"""Counts of calls, added to the rows of their hour in one statement for many calls."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from django.db import connection

if TYPE_CHECKING:
    from .record import NotedCall

CLASSES_MS: Final = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000)
"""Ends of the classes of the histogram, milliseconds."""

# Plain SQL, because adding to what is there is one step only here. The tests hold the names against the model.
ADD: Final = (
    "INSERT INTO gateway_usage (hour, server, user_id, client, method, name, outcome, up_to_ms,"
    " count, request_bytes, response_bytes, milliseconds) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
    " ON CONFLICT (hour, server, user_id, client, method, name, outcome, up_to_ms) DO UPDATE SET"
    " count = gateway_usage.count + excluded.count,"
    " request_bytes = gateway_usage.request_bytes + excluded.request_bytes,"
    " response_bytes = gateway_usage.response_bytes + excluded.response_bytes,"
    " milliseconds = gateway_usage.milliseconds + excluded.milliseconds"
)
_HOUR: Final = 3600
_MOST_NAMES: Final = 1000
_OTHERS: Final = "(others)"
_Key = tuple[datetime, str, int, str, str, str, str, int]


def count_calls(calls: Sequence[NotedCall]) -> None:
    """Add calls to the counts. Rows are taken in one order everywhere, so that processes never wait in a circle."""
    sums: defaultdict[_Key, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for call in calls:
        hour = _hour_of(int(call.at) // _HOUR)
        name = _names.bounded(call.name, server=call.server, hour=hour) if call.method == "tools/call" else ""
        key = (
            hour, call.server, call.user_id, call.client, call.method, name, call.outcome.value,
            class_of(call.milliseconds),
        )  # fmt: skip
        sum_of = sums[key]
        sum_of[0] += 1
        sum_of[1] += call.request_bytes
        sum_of[2] += call.response_bytes
        sum_of[3] += call.milliseconds
    adapt = connection.ops.adapt_datetimefield_value
    with connection.cursor() as cursor:
        cursor.executemany(ADD, [(adapt(key[0]), *key[1:], *sums[key]) for key in sorted(sums)])


@lru_cache(maxsize=8)
def _hour_of(number: int) -> datetime:
    return datetime.fromtimestamp(number * _HOUR, UTC)


def class_of(milliseconds: int) -> int:
    """Return the end of the class that a time belongs to; 0 for the one without an end."""
    place = bisect_left(CLASSES_MS, milliseconds)
    return CLASSES_MS[place] if place < len(CLASSES_MS) else 0


class Names:
    """Names of tools that are counted by themselves, of each server a thousand in an hour.

    A program can call tools that do not exist, under another name each time; those beyond are counted together. For one
    thread only.
    """

    def __init__(self, *, most: int = _MOST_NAMES) -> None:
        self._most, self._hour = most, datetime.min.replace(tzinfo=UTC)
        self._known: defaultdict[str, set[str]] = defaultdict(set)

    def bounded(self, name: str, *, server: str, hour: datetime) -> str:
        """Return the name under which a call is counted."""
        if hour != self._hour:
            self._hour = hour
            self._known.clear()
        known = self._known[server]
        if name not in known:
            if len(known) >= self._most:
                return _OTHERS
            known.add(name)
        return name


_names: Final = Names()
