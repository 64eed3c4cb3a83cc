"""Programs that act for a person, as another app knows them: what My connections shows of them.

The authorization server stands above this app and is not always there, so it tells instead of being asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@dataclass(frozen=True, slots=True)
class ActingProgram:
    """One program with one grant.

    Attributes:
        name: What it calls itself.
        host: Where it was answered; empty where that says nothing.
        is_verified: Whether an administrator vouches for it.
        uses: The server, or whatever it may use.
        may: What it may do there, in words.
        since: When the person allowed it.
        last_used_at: When it last fetched a token; None where it never did.
        revoke_url: Where a POST ends the grant.
        ended_at: When this site ended what it held, because somebody else held it as well; None where nothing did.
    """

    name: str
    host: str
    is_verified: bool
    uses: str
    may: tuple[str, ...]
    since: datetime
    last_used_at: datetime | None
    revoke_url: str
    ended_at: datetime | None = None


Source = Callable[["User"], list[ActingProgram]]
Names = Callable[[Iterable[str]], Mapping[str, str]]
_sources: Final[dict[str, tuple[Source, Names]]] = {}


def tell_of_programs(name: str, source: Source, names: Names) -> None:
    """Make known who knows programs of people, and what programs call themselves; the same name again replaces it."""
    _sources[name] = (source, names)


def acting_programs(user: User) -> list[ActingProgram]:
    """Return what all sources know, the newest first."""
    found = [program for source, _ in _sources.values() for program in source(user)]
    return sorted(found, key=lambda program: program.since, reverse=True)


def names_of_programs(client_ids: Iterable[str]) -> dict[str, str]:
    """Return what programs call themselves, by their client ids; only of those that somebody knows and that say."""
    wanted = list(client_ids)
    return {key: name for _, names in _sources.values() for key, name in names(wanted).items() if name}
