"""What the first page of the admin tells: how things stand, how it went, what comes next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import TruncHour
from django.urls import reverse

from audit.events import AuditEvent
from audit.models import AuditRecord

from ..models import (
    NOT_RENEWABLE,
    ApiToken,
    ClientRegistration,
    Connection,
    FlowTrace,
    McpServer,
    ServerDiscovery,
    TokenSet,
)
from .badges import CONNECTION_TONES

_REFRESHED: Final = AuditEvent.TOKEN_REFRESHED.value
_FAILED: Final = (AuditEvent.TOKEN_REFRESH_FAILED.value, AuditEvent.REAUTHORIZATION_REQUIRED.value)
_DAYS: Final = 7
_NEXT_SHOWN: Final = 8
_MATTERS_SHOWN: Final = 12
_HEIGHT: Final = 100


@dataclass(frozen=True, slots=True)
class Share:
    """Connections in one state; `x` and `width` in per mille of the bar."""

    name: str
    value: str
    tone: str
    count: int
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour or day. Heights are of 100; the failures stand on the refreshes."""

    label: str
    full_label: str
    refreshed: int
    failed: int
    x: float
    width: float
    refreshed_height: float
    failed_height: float

    @property
    def refreshed_y(self) -> float:
        """Where the refreshes begin, from above."""
        return _HEIGHT - self.refreshed_height

    @property
    def failed_y(self) -> float:
        """Where the failures begin, from above."""
        return self.refreshed_y - self.failed_height


@dataclass(frozen=True, slots=True)
class Chart:
    """Refreshes and failures over a time."""

    bars: tuple[Bar, ...]

    @property
    def refreshed(self) -> int:
        """How many refreshes there were."""
        return sum(bar.refreshed for bar in self.bars)

    @property
    def failed(self) -> int:
        """How many did not work."""
        return sum(bar.failed for bar in self.bars)

    @property
    def tallest(self) -> int:
        """What the highest bar stands for."""
        return max((bar.refreshed + bar.failed for bar in self.bars), default=0)


@dataclass(frozen=True, slots=True)
class Ending:
    """Something that stops working by itself."""

    at: datetime
    what: str
    kind: str
    address: str


@dataclass(frozen=True, slots=True)
class Matter:
    """Something that waits for an administrator."""

    text: str
    address: str
    tone: str


Source = Callable[[], Iterable[Matter]]
_sources: Final[dict[str, Source]] = {}


def tell_of_matters(name: str, source: Source) -> None:
    """Make known who else knows what waits for an administrator; the same name again replaces it."""
    _sources[name] = source


def connection_shares() -> list[Share]:
    """Count the connections in each state, all states, in their order."""
    counts = Counter(dict(Connection.objects.values_list("status").annotate(Count("pk")).order_by()))
    total = sum(counts.values()) or 1
    shares: list[Share] = []
    x = 0.0
    for status in Connection.Status:
        width = round(1000 * counts[status.value] / total, 2)
        tone = CONNECTION_TONES.get(status, "")
        shares.append(Share(str(status.label), status.value, tone, counts[status.value], round(x, 2), width))
        x += width
    return shares


def refresh_charts(*, now: datetime) -> tuple[Chart, Chart]:
    """Return the last 24 hours by the hour, and the last seven days by the day, both up to this moment in UTC."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    first_day = hour.replace(hour=0) - timedelta(days=_DAYS - 1)
    records = AuditRecord.objects.filter(
        event__in=(_REFRESHED, *_FAILED), at__gte=min(first_day, hour - timedelta(days=1))
    )
    records = records.exclude(connection="")  # alerts, about no one connection
    hourly: Counter[tuple[datetime, bool]] = Counter()
    rows = records.annotate(hour=TruncHour("at")).values_list("hour", "event").annotate(Count("pk")).order_by()
    for at, event, count in rows:
        hourly[at, event != _REFRESHED] += count
    daily: Counter[tuple[datetime, bool]] = Counter()
    for (at, failed), count in hourly.items():
        daily[at.replace(hour=0), failed] += count
    hours = [hour - timedelta(hours=back) for back in reversed(range(24))]
    days = [first_day + timedelta(days=later) for later in range(_DAYS)]
    return (
        _chart(hours, hourly, label="%H", full_label="%a %H:00"),
        _chart(days, daily, label="%a", full_label="%A, %d %B"),
    )


def _chart(times: list[datetime], counts: Counter[tuple[datetime, bool]], *, label: str, full_label: str) -> Chart:
    tallest = max((counts[at, False] + counts[at, True] for at in times), default=0) or 1
    step = 1000 / len(times)
    gap = step * 0.22

    def height(count: int) -> float:
        return round(max(_HEIGHT * count / tallest, 2.0) if count else 0.0, 2)

    return Chart(
        tuple(
            Bar(
                label=at.strftime(label),
                full_label=at.strftime(full_label),
                refreshed=counts[at, False],
                failed=counts[at, True],
                x=round(number * step + gap / 2, 2),
                width=round(step - gap, 2),
                refreshed_height=height(counts[at, False]),
                failed_height=height(counts[at, True]),
            )
            for number, at in enumerate(times)
        )
    )


def next_endings(*, now: datetime) -> list[Ending]:
    """Return what stops next unless somebody does something, soonest first; what renews itself is not among it."""
    tokens = TokenSet.objects.ending_for_good(after=now).filter(connection__status__in=("active", "degraded"))
    tokens = tokens.select_related("connection__server", "connection__user")
    endings = [
        Ending(
            at=found.last_end,
            what=f"{found.connection.server.name}: {found.connection.user or 'shared connection'}",
            kind="Connection without renewal",
            address=reverse("admin:connections_connection_change", args=(found.connection_id,)),
        )
        for found in tokens.order_by("last_end")[:_NEXT_SHOWN]
    ]
    clients = ClientRegistration.objects.filter(status="active", client_secret_expires_at__gt=now)
    endings += [
        Ending(found.client_secret_expires_at, found.server.name, "Secret of the registered client",
               reverse("admin:connections_clientregistration_change", args=(found.pk,)))
        for found in clients.select_related("server").order_by("client_secret_expires_at")[:_NEXT_SHOWN]
        if found.client_secret_expires_at
    ]  # fmt: skip
    programs = ApiToken.objects.valid(now=now).filter(expires_at__isnull=False).select_related("user")
    endings += [
        Ending(found.expires_at, f"{found.name}: {found.user}", "API token",
               reverse("admin:connections_apitoken_change", args=(found.pk,)))
        for found in programs.order_by("expires_at")[:_NEXT_SHOWN]
        if found.expires_at
    ]  # fmt: skip
    return sorted(endings, key=lambda ending: ending.at)[:_NEXT_SHOWN]


def renewing_soon(*, now: datetime) -> int:
    """Count the tokens that end within a day and renew themselves before."""
    soon = TokenSet.objects.filter(expires_at__gt=now, expires_at__lt=now + timedelta(days=1))
    return soon.exclude(NOT_RENEWABLE).count()


def waiting_matters() -> list[Matter]:
    """Return what only an administrator can settle."""
    moved = ServerDiscovery.objects.exclude(new_issuer="").select_related("server")
    matters = [
        Matter(
            f"{found.server.name} names another sign-in service: approve or refuse it.", _server(found.server), "bad"
        )
        for found in moved
    ]
    unreadable = Connection.objects.filter(status=Connection.Status.KEY_UNAVAILABLE).count()
    if unreadable:
        address = f"{reverse('admin:connections_connection_changelist')}?status__exact=key_unavailable"
        matters.append(Matter(f"{unreadable} stored credentials do not open with this site's keys.", address, "bad"))
    checks = FlowTrace.objects.filter(server=OuterRef("pk"), kind=FlowTrace.Kind.CHECK).order_by("-created_at")
    used = McpServer.objects.exclude(status=McpServer.Status.INACTIVE)
    for server in used.annotate(check_ok=Subquery(checks.values("ok")[:1])).filter(check_ok=False):
        matters.append(Matter(f"The last check of {server.name} found a problem.", _server(server), "warn"))
    for server in used.filter(assume_pkce=True):
        matters.append(Matter(f"{server.name} is used without a promise of PKCE.", _server(server), "warn"))
    matters += [matter for source in _sources.values() for matter in source()]
    return matters[:_MATTERS_SHOWN]


def _server(server: McpServer) -> str:
    return reverse("admin:connections_mcpserver_change", args=(server.pk,))
