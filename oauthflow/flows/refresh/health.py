"""Hold requests back from an issuer that is down, that refuses us, or that refuses everybody. R6, R8.

Nothing is written while all is well. A row appears with the first failure and goes with the next success.
"""

from __future__ import annotations

import hashlib
from collections.abc import Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Final

import structlog
from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import BooleanField, DateTimeField, Expression, ExpressionWrapper, F, Q, QuerySet, Value
from django.db.models.functions import Coalesce, Concat, Greatest
from django.db.models.lookups import In

from audit.events import AuditEvent
from audit.record import record
from connections.leases import IN_FLIGHT_PER_ISSUER
from connections.lock_order import lock_by_key
from connections.models import TokenSet
from oauthflow.flows.mail.queue_notices import tell_issuer_refuses
from oauthflow.models import IssuerHealth
from oauthflow.models.issuer_health import CLIENT_CODES
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import (
    ClientRefusedError,
    FlowError,
    GrantRefusedError,
    MalformedResponseError,
    TransportError,
)
from oauthflow.protocol.retry_after import ServerUnavailableError

FAILURES: Final = 5
WINDOW: Final = timedelta(seconds=30)
RAMP: Final = timedelta(seconds=30)
PROBE_EVERY: Final = timedelta(seconds=30)
CLIENT_PROBE_EVERY: Final = timedelta(minutes=5)
MASS_WINDOW: Final = timedelta(minutes=10)
MASS_COUNT: Final = 20
MASS_SHARE: Final = 0.2
GUARD: Final = timedelta(hours=24)
MASS_REFUSAL: Final = "mass_invalid_grant"
_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Way:
    """How far requests to an issuer may pass. `is_try`: one alone, to see; `reopened_at`: after a pause, aware UTC."""

    is_try: bool = False
    reopened_at: datetime | None = None

    def width(self, *, now: datetime) -> int:
        """Return how many requests may be under way, in all processes: all, or from 1 to all in 30 s after a pause."""
        if self.reopened_at is None or now >= self.reopened_at + RAMP:
            return IN_FLIGHT_PER_ISSUER
        return 1 + int((now - self.reopened_at) / RAMP * (IN_FLIGHT_PER_ISSUER - 1))


def require_open(token_set: TokenSet, *, now: datetime) -> Way:
    """Let a request pass, unless this issuer is held back; one in 30 s (for a refused client: 5 min) may try.

    Raises:
        ServerUnavailableError: The issuer has failed again and again.
        ClientRefusedError: It refused us as a client a moment ago.
    """
    keys = (_key(token_set.issuer), _key(token_set.issuer, token_set.client_id))
    way = Way()
    for found in IssuerHealth.objects.filter(pk__in=keys):
        if found.paused_until is None:
            way = replace(way, reopened_at=found.reopened_at or way.reopened_at)
            continue
        again = CLIENT_PROBE_EVERY if found.client_id else PROBE_EVERY
        mine = IssuerHealth.objects.filter(pk=found.pk, paused_until=found.paused_until, paused_until__lte=now).update(
            paused_until=now + again
        )
        if not mine:
            raise _held_back(found, now=now)
        way = replace(way, is_try=True)
    return way


def troubled_among(issuers: Set[str]) -> set[str]:
    """Return those of these issuers for which `require_open` may find anything."""
    return set(IssuerHealth.objects.filter(issuer__in=issuers).values_list("issuer", flat=True))


def is_in_trouble() -> Expression:
    """Say of each connection of a query whether requests like its own are held back, or one may try by now.

    Both lists are made once for a query; to look into the table for each of many connections would take a second.
    """
    paused, both = IssuerHealth.objects.filter(paused_until__isnull=False), ("issuer", Value("\n"), "client_id")
    from_all = paused.filter(client_id="").values("issuer")
    from_client = paused.exclude(client_id="").values_list(Concat(*both))
    mine = Concat("tokens__issuer", Value("\n"), "tokens__client_id")
    return ExpressionWrapper(Q(tokens__issuer__in=from_all) | Q(In(mine, from_client)), output_field=BooleanField())


def is_held_back(token_set: TokenSet, *, now: datetime) -> bool:
    """Say whether requests like this one are held back."""
    keys = (_key(token_set.issuer), _key(token_set.issuer, token_set.client_id))
    return IssuerHealth.objects.filter(pk__in=keys, paused_until__gt=now).exists()


def is_held_back_from_all(issuer: str, *, now: datetime) -> bool:
    """Say whether requests to this issuer are held back, whoever we are there."""
    return IssuerHealth.objects.filter(pk=_key(issuer), paused_until__gt=now).exists()


def note_success(token_set: TokenSet, *, now: datetime) -> None:
    """Forget the trouble; grants that had to pause because of it are due again, a few at first.

    Where that cannot be written, the next success does it: what was renewed is stored, and others wait for a run.
    """
    try:
        _forget_trouble(token_set, now=now)
    except (DatabaseError, InterfaceError) as error:
        _log.warning("refresh.trouble_not_forgotten", exception=type(error).__name__)


def _forget_trouble(token_set: TokenSet, *, now: datetime) -> None:
    keys = (_key(token_set.issuer), _key(token_set.issuer, token_set.client_id))
    _reopen(token_set.issuer, IssuerHealth.objects.filter(pk__in=keys, failures__gt=0), now=now)


def _reopen(issuer: str, troubled: QuerySet[IssuerHealth], *, now: datetime) -> None:
    if not troubled:
        return
    paused = [found.pk for found in troubled if found.paused_until is not None]
    waiting = TokenSet.objects.filter(issuer=issuer, next_attempt_at__isnull=False)
    with transaction.atomic():
        if paused:
            lock_by_key(waiting)
            waiting.update(next_attempt_at=None)
        lock_by_key(troubled)
        IssuerHealth.objects.filter(pk__in=paused).update(reopened_at=now)
        troubled.update(failures=0, failing_since=None, reason="", paused_until=None)


def note_failure(token_set: TokenSet, error: FlowError, *, now: datetime) -> None:
    """Count a failure that says something about the issuer or about us; hold requests back where it must be.

    To refuse a grant is to answer: an issuer that was away is back. Were it tried once in a while from there on, it
    could refuse everybody without being found to refuse too many.
    """
    if isinstance(error, ClientRefusedError):
        _refuse_client(token_set, error, now=now)
    elif isinstance(error, TransportError | MalformedResponseError):
        _count(token_set, error, now=now)
    elif isinstance(error, GrantRefusedError):
        away = IssuerHealth.objects.filter(pk=_key(token_set.issuer), paused_until__isnull=False)
        _reopen(token_set.issuer, away, now=now)


def may_end_grant(token_set: TokenSet, *, now: datetime) -> bool:
    """Say whether an `invalid_grant` is to be believed; not where too many come at once.

    The first 20 within 10 minutes are believed. From there on, where they are more than a fifth of the issuer's grants,
    nobody is marked for a day, and the audit record says so once. An administrator may believe them all
    (`flows.judge_issuer`).
    """
    found = _row(token_set.issuer)
    if found.is_believed(now=now):
        return True
    if found.is_guarded(now=now):
        return False
    if found.refused_since is None or found.refused_since + MASS_WINDOW < now:
        IssuerHealth.objects.filter(pk=found.pk).update(refusals=1, refused_since=now)
        return True
    IssuerHealth.objects.filter(pk=found.pk).update(refusals=F("refusals") + 1)
    found.refresh_from_db()
    grants = TokenSet.objects.filter(issuer=token_set.issuer).count() if found.refusals > MASS_COUNT else 0
    if not grants or found.refusals <= MASS_SHARE * grants:
        return True
    with transaction.atomic():
        unguarded = IssuerHealth.objects.filter(pk=found.pk, guarded_until=found.guarded_until)
        if unguarded.update(guarded_until=now + GUARD):
            _alert(token_set, reason=MASS_REFUSAL, count=found.refusals, now=now)
    return False


def _refuse_client(token_set: TokenSet, error: ClientRefusedError, *, now: datetime) -> None:
    found = _row(token_set.issuer, token_set.client_id)
    with transaction.atomic():
        is_new = IssuerHealth.objects.filter(pk=found.pk, reason="").update(reason=error.code)
        IssuerHealth.objects.filter(pk=found.pk).update(
            failures=F("failures") + 1, paused_until=now + CLIENT_PROBE_EVERY
        )
        if is_new:
            _alert(token_set, reason=error.code, count=1, now=now)


def _count(token_set: TokenSet, error: FlowError, *, now: datetime) -> None:
    found = _row(token_set.issuer)
    mine = IssuerHealth.objects.filter(pk=found.pk)
    if found.paused_until is None and (found.failing_since is None or found.failing_since + WINDOW < now):
        mine.update(failures=1, failing_since=now)
        return
    mine.update(failures=F("failures") + 1)
    wanted = timedelta(seconds=(error.retry_after or 0) if isinstance(error, ServerUnavailableError) else 0)
    until = Value(now + max(PROBE_EVERY, wanted), output_field=DateTimeField())
    mine.filter(failures__gte=FAILURES).update(
        reason=Code.TEMPORARILY_UNAVAILABLE,
        # What was under way beside the answer that named a time may fail after it, and name none.
        paused_until=Greatest(Coalesce("paused_until", until), until),
    )


def _held_back(found: IssuerHealth, *, now: datetime) -> FlowError:
    if found.reason in CLIENT_CODES:
        return ClientRefusedError("refused a moment ago", code=Code(found.reason))
    left = (found.paused_until - now).total_seconds() if found.paused_until else 0.0
    return ServerUnavailableError("the issuer is held back after many failures", retry_after=max(1, ceil(left)))


def _alert(token_set: TokenSet, *, reason: str, count: int, now: datetime) -> None:
    tell_issuer_refuses(token_set.connection.server.slug, everybody=reason == MASS_REFUSAL, now=now)
    record(
        AuditEvent.TOKEN_REFRESH_FAILED,
        server=token_set.connection.server.slug,
        client=token_set.client_id,
        reason=reason,
        details={"issuer": token_set.issuer, "count": count, "outcome": "held back"},
    )


def _row(issuer: str, client_id: str = "") -> IssuerHealth:
    found, _ = IssuerHealth.objects.get_or_create(
        key=_key(issuer, client_id), defaults={"issuer": issuer, "client_id": client_id}
    )
    return found


def _key(issuer: str, client_id: str = "") -> str:
    return hashlib.sha256(f"{issuer}\n{client_id}".encode()).hexdigest()
