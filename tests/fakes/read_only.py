"""A database that takes no writes, for every connection that is opened meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, connections
from django.db.backends.signals import connection_created


@contextmanager
def read_only_database() -> Iterator[None]:
    """As after a failover, or where a quota is used up; for tests with `transaction=True`."""
    statement = (
        "SET default_transaction_read_only = on" if connection.vendor == "postgresql" else "PRAGMA query_only = ON"
    )

    def refuse_writes(connection: Any, **kwargs: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement)

    connection_created.connect(refuse_writes)
    try:
        _begin_anew()
        yield
    finally:
        connection_created.disconnect(refuse_writes)
        _begin_anew()


def _begin_anew() -> None:
    """The next use of the database opens a new connection."""
    connections.close_all()
    if connection.vendor == "postgresql":
        connection.close_pool()
