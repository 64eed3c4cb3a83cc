"""What went through the gateway, as numbers and bars: by time and outcome, by time taken, by tool, program, refusal."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.db.models import QuerySet, Sum

from oauthflow.acting_programs import names_of_programs

from ..calls.usage_counts import CLASSES_MS
from ..models import Outcome, Usage

GROUPS: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "answered": ("good", frozenset({Outcome.OK.value})),
    "failed": (
        "bad", frozenset({
            Outcome.TOOL_ERROR.value, Outcome.RPC_ERROR.value, Outcome.UPSTREAM_ERROR.value, Outcome.FAILED_HERE.value,
        }),
    ),
    "refused": ("warn", frozenset({Outcome.FORBIDDEN.value, Outcome.OVER_LIMIT.value, Outcome.NEEDS_PERSON.value})),
    "given up": ("rest", frozenset({Outcome.CANCELLED.value, Outcome.ENDED.value})),
}  # fmt: skip
"""Outcomes that are shown as one, with the tone of their bars."""
_GROUP_OF: Final = {outcome: name for name, (_, outcomes) in GROUPS.items() for outcome in outcomes}
_TIMED: Final = GROUPS["answered"][1] | GROUPS["failed"][1]
_SHOWN: Final = 10
_HEIGHT: Final = 100.0
_LEAST: Final = 2.0


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a column; measures are of a height of 100, from above."""

    name: str
    tone: str
    count: int
    words: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """One hour or day."""

    label: str
    full_label: str
    x: float
    width: float
    parts: tuple[Part, ...]
    times: tuple[str, ...]

    def cells(self) -> list[tuple[str, int]]:
        """How many there were of each group."""
        found = {part.name: part.count for part in self.parts}
        return [(name, found.get(name, 0)) for name in GROUPS]


@dataclass(frozen=True, slots=True)
class Chart:
    """Columns, and what the highest one stands for."""

    columns: tuple[Column, ...]
    tallest: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table; `share` of the largest, in per cent."""

    name: str
    about: str
    count: int
    failed: int
    times: tuple[str, ...]
    megabytes: float
    share: float


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time that ends now, in steps of an hour or a day."""

    name: str
    title: str
    steps: int
    is_daily: bool

    def moments(self, now: datetime) -> list[datetime]:
        """Return the beginnings of the steps, UTC."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        last, step = (hour.replace(hour=0), timedelta(days=1)) if self.is_daily else (hour, timedelta(hours=1))
        return [last - step * back for back in reversed(range(self.steps))]

    def begin_of(self, hour: datetime) -> datetime:
        """Return the step that an hour belongs to."""
        return hour.replace(hour=0) if self.is_daily else hour

    def words(self, at: datetime) -> tuple[str, str]:
        """Return what stands below a column, and what it is called in full."""
        return (at.strftime("%d"), at.strftime("%A, %d %B")) if self.is_daily else (f"{at:%H}", f"{at:%a %H}:00")


SPANS: Final = {
    "day": Span("day", "24 hours", 24, is_daily=False),
    "week": Span("week", "7 days", 7, is_daily=True),
    "month": Span("month", "30 days", 30, is_daily=True),
}


def rows_of(span: Span, *, server: str, now: datetime) -> QuerySet[Usage]:
    """Return the rows of that time, of one server or of all."""
    found = Usage.objects.filter(hour__gte=span.moments(now)[0]).order_by()
    return found.filter(server=server) if server else found


def charts(rows: QuerySet[Usage], *, span: Span, now: datetime) -> tuple[Chart, Chart]:
    """Return the calls by outcome, and how long half and 95 % of them took at most."""
    counts: dict[datetime, Counter[str]] = defaultdict(Counter)
    for hour, outcome, count in rows.values_list("hour", "outcome").annotate(Sum("count")):
        counts[span.begin_of(hour)][_GROUP_OF[outcome]] += count
    classes: dict[datetime, Counter[int]] = defaultdict(Counter)
    for hour, up_to, count in _timed(rows).values_list("hour", "up_to_ms").annotate(Sum("count")):
        classes[span.begin_of(hour)][up_to] += count
    moments = span.moments(now)
    tallest = max((sum(counts[at].values()) for at in moments), default=0)
    longest = max((_place(_percentile(classes[at], 95)) for at in moments), default=0)
    step = 1000 / len(moments)
    by_outcome, by_time = [], []
    for number, at in enumerate(moments):
        place = {"x": round(number * step + step * 0.11, 2), "width": round(step * 0.78, 2)}
        label, full_label = span.words(at)
        times = percentiles(classes[at])
        by_outcome.append(Column(label, full_label, parts=_stacked(counts[at], tallest), times=times, **place))
        by_time.append(Column(label, full_label, parts=_times(classes[at], longest), times=times, **place))
    highest = in_words(CLASSES_MS[longest - 1] if longest <= len(CLASSES_MS) else 0) if longest else ""
    return Chart(tuple(by_outcome), f"{tallest:,}"), Chart(tuple(by_time), highest)


def _stacked(counts: Counter[str], tallest: int) -> tuple[Part, ...]:
    parts, y = [], _HEIGHT
    for name, (tone, _) in GROUPS.items():
        if counts[name]:
            height = max(_HEIGHT * counts[name] / tallest, _LEAST)
            y -= height
            words = f"{counts[name]} {name}"
            parts.append(Part(name, tone, counts[name], words, round(max(y, 0.0), 2), round(height, 2)))
    return tuple(parts)


def _times(classes: Counter[int], longest: int) -> tuple[Part, ...]:
    """The classes grow like a logarithm, and so does the height."""
    total, parts = sum(classes.values()), []
    for name, tone, share in (("95 %", "idle", 95), ("half", "good", 50)):
        if total:
            up_to = _percentile(classes, share)
            height, words = _HEIGHT * _place(up_to) / longest, f"{name} {in_words(up_to)}"
            parts.append(Part(name, tone, total, words, round(_HEIGHT - height, 2), round(height, 2)))
    return tuple(parts)


def percentiles(classes: Mapping[int, int]) -> tuple[str, ...]:
    """Return how long half, 95 % and 99 % took at most, in words; nothing where there were none."""
    if not any(classes.values()):
        return ()
    return tuple(in_words(_percentile(classes, share)) for share in (50, 95, 99))


def in_words(up_to_ms: int) -> str:
    """Write the end of a class of the histogram."""
    if not up_to_ms:
        return f">\N{NO-BREAK SPACE}{CLASSES_MS[-1] // 1000}\N{NO-BREAK SPACE}s"
    number, unit = (up_to_ms, "ms") if up_to_ms < 1000 else (up_to_ms / 1000, "s")
    return f"≤\N{NO-BREAK SPACE}{number:g}\N{NO-BREAK SPACE}{unit}"


def _percentile(classes: Mapping[int, int], share: int) -> int:
    needed, seen = sum(classes.values()) * share / 100, 0
    for up_to in CLASSES_MS:
        seen += classes.get(up_to, 0)
        if seen >= needed:
            return up_to
    return 0


def _place(up_to_ms: int) -> int:
    return CLASSES_MS.index(up_to_ms) + 1 if up_to_ms else len(CLASSES_MS) + 1


def _timed(rows: QuerySet[Usage]) -> QuerySet[Usage]:
    """Streams that stay open by nature say nothing about how long anything takes."""
    return rows.filter(outcome__in=_TIMED).exclude(method="subscriptions/listen")


def totals(rows: QuerySet[Usage]) -> dict[str, Any]:
    """Return the sums that stand above everything."""
    counts: Counter[str] = Counter()
    for outcome, count in rows.values_list("outcome").annotate(Sum("count")):
        counts[_GROUP_OF[outcome]] += count
    classes = dict(_timed(rows).values_list("up_to_ms").annotate(Sum("count")))
    not_answered = [(name, counts[name]) for name in GROUPS if name != "answered" and counts[name]]
    return {"calls": counts.total(), "not_answered": not_answered, "times": percentiles(classes)}


def top_tools(rows: QuerySet[Usage]) -> list[Row]:
    """Return the tools that were called most."""
    return _top(rows.filter(method="tools/call"), "name", "server")


def top_programs(rows: QuerySet[Usage]) -> list[Row]:
    """Return the programs that called most, by the names they gave themselves."""
    found = _top(rows, "client")
    names = names_of_programs([row.name for row in found])
    return [_named(row, names) for row in found]


def _named(row: Row, names: Mapping[str, str]) -> Row:
    name = names.get(row.name, "")
    about = row.name if name else ""
    return Row(name or row.name or "unknown", about, row.count, row.failed, row.times, row.megabytes, row.share)


def _top(rows: QuerySet[Usage], *columns: str) -> list[Row]:
    most = rows.values_list(*columns).annotate(sum=Sum("count")).order_by("-sum", *columns)[:_SHOWN]
    found = [(tuple(columns), count) for *columns, count in most]
    shown = []
    for key, count in found:
        of_it = rows.filter(**dict(zip(columns, key, strict=True)))
        sums = of_it.aggregate(sent=Sum("request_bytes"), got=Sum("response_bytes"))
        failed = of_it.filter(outcome__in=GROUPS["failed"][1]).aggregate(sum=Sum("count"))["sum"] or 0
        times = percentiles(dict(_timed(of_it).values_list("up_to_ms").annotate(Sum("count"))))
        megabytes = (sums["sent"] + sums["got"]) / 1_000_000
        shown.append(Row(key[0], "".join(key[1:]), count, failed, times, megabytes, 100 * count / found[0][1]))
    return shown


def refusals(rows: QuerySet[Usage]) -> list[dict[str, object]]:
    """Return what was refused most, and to whom."""
    refused = rows.filter(outcome__in=GROUPS["refused"][1]).values_list("outcome", "server", "name", "user_id")
    most = list(refused.annotate(sum=Sum("count")).order_by("-sum", "server", "name")[:_SHOWN])
    people = _usernames(user_id for _, _, _, user_id, _ in most)
    return [
        {"why": Outcome(outcome).label, "server": server, "tool": name, "who": people.get(user_id, "a deleted account"),
         "count": count}
        for outcome, server, name, user_id, count in most
    ]  # fmt: skip


def _usernames(ids: Iterable[int]) -> dict[int, str]:
    return dict(User.objects.filter(pk__in=set(ids)).values_list("pk", "username"))
