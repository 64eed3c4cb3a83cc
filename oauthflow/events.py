"""Write events, in the transaction of the change that they tell.

Nobody calls this where the audit record is written anyway: what is appended to the audit record is looked at here, in
the same transaction, and the map below says what becomes an event. So every writer tells each event exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from functools import partial
from typing import Any, Final, Protocol
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from audit.append import lock_end
from audit.events import AuditEvent
from connections.models import Connection
from connections.recordset import as_json, one_of, recordset

from .event_wake import announce
from .models import Event, EventType
from .protocol.codes import SENTENCES, Code
from .signals import SIGNALS

_OF_CONNECTION: Final[Mapping[str, EventType]] = {
    AuditEvent.AUTHORIZATION_INITIATED: EventType.AUTHORIZATION_REQUIRED,
    AuditEvent.AUTHORIZATION_COMPLETED: EventType.AUTHORIZATION_COMPLETED,
    AuditEvent.AUTHORIZATION_FAILED: EventType.AUTHORIZATION_FAILED,
    AuditEvent.TOKEN_REFRESHED: EventType.TOKEN_REFRESHED,
    AuditEvent.TOKEN_REFRESH_FAILED: EventType.TOKEN_REFRESH_FAILED,
    AuditEvent.REAUTHORIZATION_REQUIRED: EventType.REAUTHORIZATION_REQUIRED,
    AuditEvent.CREDENTIALS_REVOKED: EventType.CREDENTIALS_REVOKED,
}
# Records of a server that stopped its connections: one event for each connection in that state.
_OF_SERVER: Final[Mapping[str, tuple[EventType, str]]] = {
    AuditEvent.ISSUER_CHANGED: (EventType.ISSUER_CHANGED, Connection.Status.ISSUER_CHANGED),
    AuditEvent.SERVER_CHANGED: (EventType.ISSUER_CHANGED, Connection.Status.ISSUER_CHANGED),
    AuditEvent.ISSUER_APPROVED: (EventType.REAUTHORIZATION_REQUIRED, Connection.Status.REAUTH_REQUIRED),
}
_MESSAGES: Final[Mapping[str, str]] = {
    EventType.AUTHORIZATION_REQUIRED: "Somebody has to sign in and agree before this connection can be used.",
    EventType.AUTHORIZATION_COMPLETED: "The connection works.",
    EventType.AUTHORIZATION_FAILED: "The sign-in did not succeed.",
    EventType.TOKEN_REFRESHED: "The access was renewed.",
    EventType.TOKEN_EXPIRING_SOON: "The access ends soon and cannot be renewed without a new sign-in.",
    EventType.TOKEN_REFRESH_FAILED: "The access could not be renewed at the moment; it is tried again.",
    EventType.REAUTHORIZATION_REQUIRED: "The connection has ended. Sign in again to use it.",
    EventType.CREDENTIALS_REVOKED: "The connection was disconnected.",
    EventType.CLIENT_SECRET_EXPIRING: "The client secret that this site uses there ends soon.",
    EventType.ISSUER_CHANGED: "The server names another sign-in service; an administrator has to approve it.",
}
_UPSTREAM: Final = "upstream"
_NEEDS_A_PERSON: Final = frozenset(
    {
        EventType.AUTHORIZATION_REQUIRED, EventType.REAUTHORIZATION_REQUIRED, EventType.TOKEN_EXPIRING_SOON,
        EventType.CLIENT_SECRET_EXPIRING, EventType.ISSUER_CHANGED,
    }
)  # fmt: skip
_COLUMNS: Final[Mapping[str, str]] = {
    "event_type": "text", "connection_id": "uuid", "user_id": "bigint", "server": "text", "message": "text",
    "code": "text", "requires_user_action": "boolean", "request_id": "uuid", "created_at": "timestamptz",
}  # fmt: skip
_INSERT: Final = " ".join(
    ("INSERT INTO oauthflow_event (", ", ".join(_COLUMNS), ") SELECT * FROM {recordset} RETURNING cursor")
)
Row = dict[str, Any]
"""An event that is to be written, by the names of `_COLUMNS`."""

_EXPLAINED_BY_CODE: Final = frozenset({EventType.AUTHORIZATION_FAILED, EventType.REAUTHORIZATION_REQUIRED})


class Appended(Protocol):
    """What is read of an audit record that was just written."""

    event: Any
    server: str
    connection: str
    reason: str
    details: Any


def emit(event_type: EventType, connection: Connection, *, message: str = "", code: str = "") -> Event:
    """Write an event that no audit record tells, in the caller's transaction or in one of its own.

    Call it last inside a transaction: it takes the lock on the end of the audit chain and holds it until the commit.

    Args:
        event_type: What happened.
        connection: To whose grant.
        message: One sentence of ours for people; never a word of the other side. Empty: the usual one.
        code: One of our codes, where there is a reason.
    """
    with transaction.atomic():
        lock_end()
        slug, pk = connection.server.slug, str(connection.pk)
        row = _row(event_type, pk, user_id=connection.user_id, server=slug, code=code)
        row["message"] = message or row["message"]
        return _event(row, *_write([row]))


def tell_appended(sender: object, *, entries: Sequence[Appended], **kwargs: object) -> None:
    """Write the events that these audit records mean. Receives `audit.listeners.APPENDED`."""
    owners = _owners({entry.connection for entry in entries if entry.connection and entry.event in _OF_CONNECTION})
    rows = [row for entry in entries for row in _rows_of(entry, owners=owners)]
    if rows:
        _write(rows)


def _owners(connection_ids: Set[str]) -> dict[str, int | None]:
    if not connection_ids:
        return {}
    ids = one_of(UUID(pk) for pk in connection_ids)
    return {str(pk): user_id for pk, user_id in Connection.objects.filter(pk__in=ids).values_list("pk", "user_id")}


def _rows_of(entry: Appended, *, owners: Mapping[str, int | None]) -> Iterator[Row]:
    if entry.details.get("target") == _UPSTREAM:
        return  # that it ended here was told before
    if entry.event in _OF_CONNECTION and entry.connection in owners:
        user_id, event_type = owners[entry.connection], _OF_CONNECTION[entry.event]
        row = _row(event_type, entry.connection, user_id=user_id, server=entry.server, code=entry.reason)
        if entry.event == AuditEvent.AUTHORIZATION_INITIATED:
            row["request_id"] = entry.details.get("request") or None
        yield row
    elif entry.event in _OF_SERVER and (entry.event != AuditEvent.SERVER_CHANGED or entry.details.get("count")):
        event_type, status = _OF_SERVER[entry.event]
        stopped = Connection.objects.filter(server__slug=entry.server, status=status, reason=Code.ISSUER_CHANGED)
        for pk, user_id in stopped.values_list("pk", "user_id"):
            yield _row(event_type, str(pk), user_id=user_id, server=entry.server, code=Code.ISSUER_CHANGED)


def _row(event_type: EventType, connection_id: str, *, user_id: int | None, server: str, code: str) -> Row:
    # What people gave as their reason is theirs; it may hold anything.
    known = Code(code) if code in SENTENCES else None
    explained = known is not None and event_type in _EXPLAINED_BY_CODE
    return {
        "event_type": event_type.value,
        "connection_id": connection_id,
        "user_id": user_id,
        "server": server,
        "message": SENTENCES[known].message if known and explained else _MESSAGES[event_type],
        "code": known.value if known else "",
        "requires_user_action": event_type in _NEEDS_A_PERSON,
        "request_id": None,
        "created_at": timezone.now(),
    }


def _write(rows: Sequence[Row]) -> list[int]:
    """Return their cursors. The caller holds the end of the audit chain, so that these are in the order of commits."""
    with connection.cursor() as cursor:
        cursor.execute(_INSERT.format(recordset=recordset(_COLUMNS)), [as_json(rows)])
        cursors = sorted(number for (number,) in cursor.fetchall())
    announce()
    transaction.on_commit(partial(_tell, rows, cursors), robust=True)
    return cursors


def _tell(rows: Sequence[Row], cursors: Sequence[int]) -> None:
    for row, cursor in zip(rows, cursors, strict=True):
        signal = SIGNALS[row["event_type"]]
        if signal.receivers:
            signal.send_robust(sender=Event, event=_event(row, cursor))


def _event(row: Row, cursor: int) -> Event:
    ids = {name: row[name] and UUID(str(row[name])) for name in ("connection_id", "request_id")}
    event = Event(**{**row, **ids, "cursor": cursor})
    event._state.adding = False
    return event
