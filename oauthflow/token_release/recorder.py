"""The audit record of releases: many calls, one transaction; and when tokens and connections were last used."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import structlog
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from audit.append import Entry, append_many
from audit.deferred import NOT_WRITABLE, append_deferred, defer
from connections.database_time import by_database
from connections.models import ApiToken, Connection
from oauthflow.hot_path.batches import Batches
from oauthflow.hot_path.uses import note_uses

CAPACITY: Final = 1000
"""How many releases may wait for their record; further ones are told to come back."""
_GATHERING_SECONDS: Final = 0.001

_log = structlog.get_logger(__name__)


class Release(NamedTuple):
    """A release that is about to happen, and the ids of what was last used more than a minute ago."""

    entry: Entry
    used_token: Any = None
    used_connection: Any = None


class Recorder:
    """Writes records durably, in a thread of its own, before anybody gets a token.

    While one transaction is being committed the next calls gather; they become the next transaction.
    """

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self._batches: Batches[Release, None] = Batches(
            _write,
            afterwards=_note_use,
            name="token-release-recorder",
            capacity=capacity,
            gathering_seconds=_GATHERING_SECONDS,
        )

    def record(self, release: Release) -> asyncio.Future[None]:
        """Return a future that is done when the record is committed.

        Raises:
            BatchesFullError: Too many wait already.
        """
        return self._batches.put(release)

    async def close(self) -> None:
        """Commit what waits, and end."""
        await self._batches.close()


def _write(releases: Sequence[Release]) -> list[None]:
    entries = [release.entry for release in releases]
    try:
        _append(entries)
    except (DatabaseError, InterfaceError):
        # The server may have been restarted. If the first attempt was committed and only the answer to it was lost,
        # there is a record too many, which is better than one too few.
        _log.warning("records of releases are written again", count=len(entries))
        connection.close()
        _append_or_defer(entries)
    append_deferred()
    return [None] * len(releases)


def _append_or_defer(entries: Sequence[Entry]) -> None:
    try:
        _append(entries)
    except NOT_WRITABLE as error:
        defer(entries, because=error)


def _append(entries: Sequence[Entry]) -> None:
    if connection.connection is None:
        connection.ensure_connection()
        if connection.vendor == "sqlite":
            # The site's own level, NORMAL, may lose the last commits in a power failure.
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA synchronous = FULL")
    append_many(entries)


def _note_use(releases: Sequence[Release]) -> None:
    """Nobody waits for this, and nobody's lock on a connection meets ours on the chain."""
    tokens = {release.used_token for release in releases if release.used_token}
    used = {release.used_connection for release in releases if release.used_connection}
    if not tokens and not used:
        return
    try:
        now = by_database(timezone.now())
        note_uses(ApiToken.objects.filter(pk__in=tokens), now=now)
        note_uses(Connection.objects.filter(pk__in=used), now=now)
    except (DatabaseError, InterfaceError):
        _log.warning("the last use of some connections was not noted", count=len(used))
