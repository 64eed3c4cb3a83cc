"""End tokens before their time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import F

from audit.append import at_the_end

from ..models import Revocation, RevocationEpoch, TokenFamily
from ..models.token_family import TokenFamilyQuerySet

# Longer than any access token lives, whatever the settings were when it was issued.
_LONGEST_LIFE: Final = timedelta(seconds=3660)
_BEING_ANSWERED: Final = timedelta(seconds=2)


def end_families(families: TokenFamilyQuerySet, *, reason: str, now: datetime) -> int:
    """End families with all their tokens; at resource servers within a second.

    In the caller's transaction or in its own; the caller writes the audit record, and writes it last.

    Args:
        families: Which ones, for example `TokenFamily.objects.filter(consent=consent)`.
        reason: A word of ours, kept with the family.
        now: Aware UTC.

    Returns:
        How many had not ended before.

    Spec: RFC 7009 §2.1; RFC 9700 §4.14.2. AS14, X-04.
    """
    with transaction.atomic():
        standing = families.filter(ended_at__isnull=True).select_for_update(of=("self",), no_key=True).order_by("pk")
        ids = list(standing.values_list("pk", flat=True))
        TokenFamily.objects.filter(pk__in=ids).update(
            ended_at=now, ended_reason=reason, refresh_hash="", previous_hash="", successor_sealed=""
        )
        revoke_values([family_id.hex for family_id in ids], now=now)
    return len(ids)


def revoke_values(values: Iterable[str], *, now: datetime, issued_until: datetime | None = None) -> None:
    """Make access tokens bad: one by its `jti`, or those of a family or service account by the hex of its id.

    Args:
        values: See above.
        now: Aware UTC.
        issued_until: Tokens that are issued later are good; None where there will be none.
    """
    until = now + _LONGEST_LIFE
    rows = [Revocation(value=value, until=until, issued_until=issued_until or until) for value in values]
    if not rows:
        return
    with transaction.atomic():
        Revocation.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=["value"], update_fields=["until", "issued_until"]
        )
        advance_epoch()


def end_service_tokens(client_id: UUID, *, now: datetime) -> None:
    """End the tokens that a service account has by now; a request that is just being answered counts in."""
    revoke_values([client_id.hex], now=now, issued_until=now + _BEING_ANSWERED)


def advance_epoch() -> None:
    """Tell every process that what it remembers of tokens has to be looked up again."""
    at_the_end(_advance)


def _advance() -> None:
    one = RevocationEpoch.objects.filter(pk=1)
    if not one.update(number=F("number") + 1):
        RevocationEpoch.objects.get_or_create(pk=1)
        one.update(number=F("number") + 1)
