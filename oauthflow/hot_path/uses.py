"""When connections were last used, noted beside the event loop; nobody waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from connections.database_time import by_database
from connections.lock_order import lock_free
from connections.models import Connection

from .batches import Batches, BatchesFullError

USE_IS_OLD_AFTER: Final = timedelta(minutes=1)
_CAPACITY: Final = 10_000
_log = structlog.get_logger(__name__)


class NotedUses:
    """Notes the use of connections in a thread of its own. `note` and `close` belong to the event loop's thread."""

    def __init__(self, *, name: str) -> None:
        self._batches: Batches[UUID, None] = Batches(_note, name=name, capacity=_CAPACITY)

    def note(self, connection_id: UUID) -> None:
        """Note that a connection was used now, one whose noted use is old."""
        try:
            self._batches.put(connection_id)
        except BatchesFullError:
            _log.info("a use was not noted")

    async def close(self) -> None:
        """Note what waits, and end."""
        await self._batches.close()


def note_uses(used: QuerySet[Any], *, now: datetime) -> None:
    """Note it of rows whose noted use is old. What somebody else is writing is left to its next use."""
    is_old = Q(last_used_at__isnull=True) | Q(last_used_at__lte=now - USE_IS_OLD_AFTER)
    with transaction.atomic():
        used.model._base_manager.filter(pk__in=lock_free(used.filter(is_old))).update(last_used_at=now)


def _note(connection_ids: Sequence[UUID]) -> list[None]:
    now = by_database(timezone.now())
    try:
        note_uses(Connection.objects.filter(pk__in=set(connection_ids)), now=now)
    except (DatabaseError, InterfaceError):
        _log.warning("the last use of some connections was not noted", count=len(connection_ids))
        connection.close()
    return [None] * len(connection_ids)
