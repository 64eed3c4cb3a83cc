"""Write events, in the transaction of the change that they tell.

Nobody calls this where the audit record is written anyway: what is appended to the audit record is looked at here, in
the same transaction, and the map below says what becomes an event. So every writer tells each event exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol

from django.db import connection, transaction
from django.utils import timezone

from audit.append import lock_end
from audit.events import AuditEvent
from connections.models import Connection
from connections.recordset import as_json, recordset

from .event_wake import announce
from .models import Event, EventType
from .protocol.codes import REASONS, SENTENCES, Code
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
TAKEN_UP: Final = "taken up"
"""`outcome` of the record of a server that names its old sign-in service again: who still waits was told before."""
_NEEDS_A_PERSON: Final = frozenset(
    {
        EventType.AUTHORIZATION_REQUIRED, EventType.REAUTHORIZATION_REQUIRED, EventType.TOKEN_EXPIRING_SOON,
        EventType.CLIENT_SECRET_EXPIRING, EventType.ISSUER_CHANGED,
    }
)  # fmt: skip
_COLUMNS: Final[Mapping[str, str]] = {
    "event_type": "text", "connection_id": "uuid", "server": "text", "message": "text", "code": "text",
    "requires_user_action": "boolean", "request_id": "uuid", "created_at": "timestamptz",
}  # fmt: skip
# Of one that is deleted in the same transaction the record says whose it was; nobody's: shared.
_SAID: Final[Mapping[str, str]] = {"owner": "bigint", "is_owner_said": "boolean"}
# Of connections that exist, whose owners are read in the same statement, and of those whose owner is said.
_INSERT: Final = " ".join(
    (
        "INSERT INTO oauthflow_event (user_id,", ", ".join(_COLUMNS), ")",
        "SELECT coalesce(c.user_id, r.owner),", ", ".join(f"r.{name}" for name in _COLUMNS),
        "FROM {recordset} {owners} WHERE c.id IS NOT NULL OR r.is_owner_said ORDER BY r.number",
        "RETURNING cursor",
    )
)  # fmt: skip
_OWNERS: Final[Mapping[str, str]] = {
    "sqlite": "LEFT JOIN connections_connection AS c ON c.id = r.connection_id",
    # By LIMIT it looks them up one by one; for a few hundred events it would read a small table whole.
    "postgresql": "LEFT JOIN LATERAL"
    " (SELECT id, user_id FROM connections_connection WHERE id = r.connection_id LIMIT 1) AS c ON true",
}
Row = dict[str, Any]
"""An event that is to be written, by the names of `_COLUMNS` and `_SAID`."""

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
        row = _row(event_type, str(connection.pk), server=connection.server.slug, code=code, now=timezone.now())
        row["message"] = message or row["message"]
        return Event.objects.get(cursor__in=_write([row]))


def tell_appended(sender: object, *, entries: Sequence[Appended], **kwargs: object) -> None:
    """Write the events that these audit records mean. Receives `audit.listeners.APPENDED`."""
    now = timezone.now()
    rows = [row for entry in entries for row in _rows_of(entry, now=now)]
    if rows:
        _write(rows)


def _rows_of(entry: Appended, *, now: datetime) -> Iterator[Row]:
    if entry.details.get("target") == _UPSTREAM or entry.details.get("outcome") == TAKEN_UP:
        return  # that it ended or was stopped here was told before
    if entry.connection and entry.event in _OF_CONNECTION:
        event_type = _OF_CONNECTION[entry.event]
        row = _row(event_type, entry.connection, server=entry.server, code=entry.reason, now=now)
        row["owner"], row["is_owner_said"] = entry.details.get("user"), "user" in entry.details
        if entry.event == AuditEvent.AUTHORIZATION_INITIATED:
            row["request_id"] = entry.details.get("request") or None
        yield row
    elif entry.event in _OF_SERVER and (entry.event != AuditEvent.SERVER_CHANGED or entry.details.get("count")):
        event_type, status = _OF_SERVER[entry.event]
        stopped = Connection.objects.filter(server__slug=entry.server, status=status, reason=Code.ISSUER_CHANGED)
        for pk in stopped.values_list("pk", flat=True):
            yield _row(event_type, str(pk), server=entry.server, code=Code.ISSUER_CHANGED, now=now)


def _row(event_type: EventType, connection_id: str, *, server: str, code: str, now: datetime) -> Row:
    # What people gave as their reason is theirs; it may hold anything.
    known = Code(code) if code in SENTENCES else None
    why = SENTENCES[known].message if known else REASONS.get(code)
    return {
        "event_type": event_type.value,
        "connection_id": connection_id,
        "server": server,
        "message": (event_type in _EXPLAINED_BY_CODE and why) or _MESSAGES[event_type],
        "code": known.value if known else "",
        "requires_user_action": event_type in _NEEDS_A_PERSON,
        "request_id": None,
        "created_at": now,
        "owner": None,
        "is_owner_said": False,
    }


def _write(rows: Sequence[Row]) -> list[int]:
    """Return their cursors. The caller holds the end of the audit chain, so that these are in the order of commits."""
    with connection.cursor() as cursor:
        numbered = [{"number": number, **row} for number, row in enumerate(rows)]
        listed = recordset({"number": "integer", **_COLUMNS, **_SAID})
        cursor.execute(_INSERT.format(recordset=listed, owners=_OWNERS[connection.vendor]), [as_json(numbered)])
        cursors = [number for (number,) in cursor.fetchall()]
    announce()
    if any(SIGNALS[event_type].receivers for event_type in {row["event_type"] for row in rows}):
        transaction.on_commit(partial(_tell, cursors), robust=True)
    return cursors


def _tell(cursors: Sequence[int]) -> None:
    for event in Event.objects.filter(cursor__in=cursors):
        SIGNALS[event.event_type].send_robust(sender=Event, event=event)
