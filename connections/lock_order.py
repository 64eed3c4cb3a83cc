"""In which order rows are locked. Two who each wait for a row of the other are stopped by PostgreSQL, and one fails.

Whoever locks several rows keeps to this order, and takes several of one kind by key:

1. the server, also for whoever adds, supersedes or deletes its registrations, and what was discovered of it
2. tokens
3. connections
4. what hangs on them: sign-ins under way; questions of clients, then clients, consents and token families; webhooks,
   then their deliveries
5. what foreign keys name: PostgreSQL checks these at the end
6. what everybody changes: counters, and last of all the end of the audit chain

`audit.append` sees to the last two: see `appended_last` and `at_the_end`. Locks are `FOR NO KEY UPDATE`, which lets
these checks pass, and of one table: the usual order of a model may join others, whose rows would be locked as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connection

from .models import Connection, TokenSet
from .recordset import one_of

if TYPE_CHECKING:
    from django.db.models import QuerySet


def lock_grants(connection_ids: Iterable[UUID]) -> None:
    """Lock connections with their tokens until the transaction ends; nothing else of them may be locked before."""
    ids = list(connection_ids)
    lock_by_key(TokenSet.objects.filter(connection__in=one_of(ids)))
    lock_by_key(Connection.objects.filter(pk__in=one_of(ids)))


def lock_free(rows: QuerySet[Any]) -> list[Any]:
    """Lock those rows that nobody else is writing at this moment, waiting for none, and return their keys."""
    free = rows.select_for_update(of=("self",), no_key=True, skip_locked=True).order_by()
    return list(free.values_list("pk", flat=True))


def lock_by_key(rows: QuerySet[Any]) -> None:
    """Lock rows of one table until the transaction ends: for a statement that writes several, in whatever order."""
    if connection.features.has_select_for_update:  # SQLite has one writer
        list(rows.select_for_update(of=("self",), no_key=True).order_by("pk").values_list("pk"))
