"""Append to the chain: the one place where records are numbered, linked and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.db import connection, transaction
from django.utils import timezone

from .anchors import anchor_after_commit
from .chain import Content, canonical_details, current_key, key_id, link_mac
from .listeners import APPENDED
from .models import AuditHead

# Plain SQL, because the ORM would cost more than everything else that a release of a token does. The tests hold the
# names against the models.
TAKE_NUMBERS: Final = "UPDATE audit_audithead SET sequence = sequence + %s WHERE id = 1 RETURNING sequence, mac"
KEEP_END: Final = "UPDATE audit_audithead SET mac = %s WHERE id = 1"
INSERT: Final = (
    "INSERT INTO audit_auditrecord (sequence, at, event, actor, server, connection, client, reason, correlation_id,"
    " details, key_id, previous_mac, mac) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
# All rows as one JSON parameter: psycopg spends more on thirteen parameters than PostgreSQL on reading the JSON.
INSERT_JSON: Final = (
    "INSERT INTO audit_auditrecord (sequence, at, event, actor, server, connection, client, reason, correlation_id,"
    " details, key_id, previous_mac, mac) SELECT * FROM json_to_recordset(%s::json) AS r (sequence bigint,"
    " at timestamptz, event text, actor text, server text, connection text, client text, reason text,"
    " correlation_id text, details jsonb, key_id text, previous_mac text, mac text)"
)


class Entry(NamedTuple):
    """What a record is to say. `audit.record.entry` makes one out of models and checks what it may hold."""

    event: str
    actor: str
    server: str
    connection: str
    client: str
    reason: str
    correlation_id: str
    details: Mapping[str, object]


class Link(NamedTuple):
    """A record as it is appended. `at` is the same for all that are appended together."""

    content: Content
    at: datetime
    canonical: str
    previous_mac: str
    mac: str


class _Gathered(NamedTuple):
    """What a change leaves for its end: records, and steps, each as the key of a dictionary, which keeps the order."""

    entries: list[Entry]
    steps: dict[Callable[[], None], None]


_gathered: Final[ContextVar[_Gathered | None]] = ContextVar("gathered", default=None)


def append_many(entries: Sequence[Entry]) -> None:
    """Append records in this order, in the caller's transaction or in one of their own.

    Call it last inside a transaction: it takes the lock on the end of the chain and holds it until the commit. Whoever
    holds it may wait for no row that another could hold who waits for it; where it cannot be last, see `appended_last`.
    """
    gathered = _gathered.get()
    if gathered is None:
        _append(entries)
    else:
        gathered.entries.extend(entries)


def at_the_end(step: Callable[[], None]) -> None:
    """Do something to a row that everybody changes, such as a counter: once, where `appended_last` ends; else now.

    Whoever holds such a row may wait for no other, as with the end of the chain, before which it is done.
    """
    gathered = _gathered.get()
    if gathered is None:
        step()
    else:
        gathered.steps[step] = None


@contextmanager
def appended_last() -> Iterator[None]:
    """Gather what is recorded inside and append it at the end; for changes of several steps that record or count each.

    Belongs inside the transaction of the whole change: `with transaction.atomic(), appended_last():`.
    """
    if _gathered.get() is not None:
        yield
        return
    gathered = _Gathered([], {})
    token = _gathered.set(gathered)
    try:
        yield
    finally:
        _gathered.reset(token)
    if any(gathered):
        _append(*gathered)


def _append(entries: Sequence[Entry], steps: Iterable[Callable[[], None]] = ()) -> None:
    is_last_step = connection.in_atomic_block
    with transaction.atomic(), connection.cursor() as cursor:
        if is_last_step and connection.vendor == "postgresql":
            # Foreign keys are checked at the commit otherwise, where the rows that they name may have to be waited for.
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
        for step in steps:
            step()
        if not entries:
            return
        last, mac = _take_numbers(cursor, len(entries))
        links = _linked(entries, first=last - len(entries) + 1, previous_mac=mac)
        if connection.vendor == "postgresql":
            cursor.execute(INSERT_JSON, [f"[{','.join(_json(link) for link in links)}]"])
        else:
            at = connection.ops.adapt_datetimefield_value(links[0].at)
            cursor.executemany(INSERT, [_parameters(link, at) for link in links])
        cursor.execute(KEEP_END, [links[-1].mac])
        anchor_after_commit(first=last - len(entries) + 1, last=last, mac=links[-1].mac)
        APPENDED.send(sender=None, entries=entries)


def lock_end() -> None:
    """Take the lock on the end of the chain, which orders everything that is written under it, until the commit.

    The row is made where a new site has none yet: without it there would be nothing to lock. On SQLite whoever writes
    is alone anyway.
    """
    end = AuditHead.objects.select_for_update().filter(pk=1).values_list("pk")
    if not end:
        AuditHead.objects.get_or_create(pk=1)
        end.get()


def _take_numbers(cursor: Any, count: int) -> tuple[int, str]:
    """The UPDATE holds the row lock (PostgreSQL) or the write lock (SQLite) until the commit."""
    cursor.execute(TAKE_NUMBERS, [count])
    end = cursor.fetchone()
    if end is None:
        AuditHead.objects.get_or_create(pk=1)
        cursor.execute(TAKE_NUMBERS, [count])
        end = cursor.fetchone()
    return int(end[0]), str(end[1])


def _linked(entries: Sequence[Entry], *, first: int, previous_mac: str) -> list[Link]:
    at, key = timezone.now(), current_key()
    moment, name_of_key = at.isoformat(), key_id(key)
    links = []
    for sequence, (*columns, details) in enumerate(entries, start=first):
        content = Content._make((sequence, moment, *columns, canonical_details(details), name_of_key))
        canonical = content.canonical()
        mac = link_mac(canonical, previous_mac=previous_mac, key=key)
        links.append(Link(content, at, canonical, previous_mac, mac))
        previous_mac = mac
    return links


def _json(link: Link) -> str:
    """The row as a JSON object: the canonical form and the two codes."""
    return f'{link.canonical[:-1]},"previous_mac":"{link.previous_mac}","mac":"{link.mac}"}}'


def _parameters(link: Link, at: Any) -> tuple[Any, ...]:
    """The row in the order of `INSERT`; `at` as Django's fields store it."""
    sequence, _, *columns = link.content
    return (sequence, at, *columns, link.previous_mac, link.mac)
