"""Settings of the authorization server: names with units, each with the reason for its default."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True, slots=True)
class AuthserverConfiguration:
    """What `AUTHSERVER` in the settings may change.

    Attributes:
        code_seconds: A program redeems its code at once; longer only helps a thief. V10.4.3.
        access_token_seconds: 900 to 3600. Short, because others check these tokens without asking us. T-09. With
            `DEBUG` from 1, so that programs can be watched when their token ends.
        refresh_window_seconds: 0 to 60. How long the token before the newest still gives the same answer, for clients
            that lost an answer or ask twice at once; 0 takes every second use for theft. X-04.
        family_days: How long a grant can be renewed before the person is asked again.
        registration: Whether programs may register themselves: all, those with a token of an administrator, or none.
        registrations_of_an_address: Per hour. A program registers once, not at each start.
        registrations_a_day: Of all addresses together.
        most_clients: Of those that registered themselves; beyond, the oldest unused ones go.
        unused_client_hours: How long a program that registered may wait for its first consent.
        idle_client_days: After how many days without use a program has to register again.
        document_hosts: Whose metadata documents are taken; empty: everybody's.
        documents_of_a_host: How many documents of one host are fetched in an hour.
        consent_minutes: How long a person may look at the question.
        refusals_a_minute: How often one address may be refused at the endpoints for programs, in each process; 0: ever.
        revocation_check_seconds: How old what this process knows of revocations may be at most.
    """

    code_seconds: int = 60
    access_token_seconds: int = 900
    refresh_window_seconds: int = 10
    family_days: int = 90
    registration: Literal["open", "token", "off"] = "open"
    registrations_of_an_address: int = 10
    registrations_a_day: int = 1000
    most_clients: int = 10_000
    unused_client_hours: int = 24
    idle_client_days: int = 90
    document_hosts: tuple[str, ...] = ()
    documents_of_a_host: int = 120
    consent_minutes: int = 10
    refusals_a_minute: int = 600
    revocation_check_seconds: float = 0.5


def authserver_configuration() -> AuthserverConfiguration:
    """Read `settings.AUTHSERVER`.

    Raises:
        ImproperlyConfigured: It has a name that does not exist, or a number outside its range.
    """
    given: dict[str, Any] = getattr(settings, "AUTHSERVER", {})
    return _configured(tuple(given.items()))


@lru_cache(maxsize=8)
def _configured(items: tuple[tuple[str, Any], ...]) -> AuthserverConfiguration:
    given = dict(items)
    if unknown := given.keys() - {field.name for field in fields(AuthserverConfiguration)}:
        raise ImproperlyConfigured(f"AUTHSERVER has no setting {sorted(unknown)[0]}.")
    chosen = replace(AuthserverConfiguration(), **given)
    shortest = 1 if settings.DEBUG else 900
    for name, least, most in (("access_token_seconds", shortest, 3600), ("refresh_window_seconds", 0, 60)):
        if not least <= getattr(chosen, name) <= most:
            raise ImproperlyConfigured(f"AUTHSERVER {name} has to be {least} to {most}.")
    return chosen


def issuer() -> str:
    """Who we are to clients: `PUBLIC_URL` and nothing else."""
    return str(settings.PUBLIC_URL)
