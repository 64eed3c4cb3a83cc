"""Renewed tokens on their way into the database: sealed once, written many at a time, fenced by generation and lease.

What a token endpoint answered is sealed at once for the row and the generation that it is for. The same sealed values
then go to the spool file and to the row, so that neither opens anywhere else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.db import connection, transaction

from audit.append import Entry, append_many
from audit.events import AuditEvent
from audit.record import entry
from oauthflow.protocol.errors import SecretUnreadableError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.token_endpoint import TokenResponse

from .models import Connection, TokenSet
from .recordset import as_json, one_of, recordset, returned
from .sealing import unseal
from .services import fitting_scope, refresh_due_at

if TYPE_CHECKING:
    from django.contrib.auth.models import User

_ACCESS: Final = TokenSet._meta.get_field("access_token_sealed")
_REFRESH: Final = TokenSet._meta.get_field("refresh_token_sealed")
_WRITTEN: Final[Mapping[str, str]] = {
    "generation": "bigint", "access_token_sealed": "text", "refresh_token_sealed": "text", "token_type": "text",
    "scope": "text", "obtained_at": "timestamptz", "expires_at": "timestamptz", "refresh_due_at": "timestamptz",
    "refresh_ends_at": "timestamptz", "refresh_end_known_since": "timestamptz",
}  # fmt: skip
_COMPARED: Final[Mapping[str, str]] = {"id": "uuid", "lease_owner": "text"}


class RenewalUnreadableError(Exception):
    """A line of a spool file is damaged, or none of our keys opens what it holds."""


@dataclass(slots=True)
class Renewal:
    """What one refresh brought, never changed. `generation` is the one that the row gets; times are aware UTC.

    These fields are the format of a line of the spool, and while a site is upgraded the release before reads lines of
    the release after. So a new field comes in two releases: the first reads it, with a default, and the next writes it.
    A line with a field that nobody here knows stays where it is, as it is, for a process that can read it.
    """

    id: UUID
    connection_id: UUID
    generation: int
    lease_owner: str
    access_token_sealed: str
    refresh_token_sealed: str
    token_type: str
    scope: str
    obtained_at: datetime
    expires_at: datetime | None
    refresh_due_at: datetime | None
    server: str
    issuer: str
    trigger: str
    actor: str
    seconds_left: int | None
    refresh_ends_at: datetime | None = None
    refresh_end_known_since: datetime | None = None
    _line: str = field(default="", init=False, repr=False, compare=False)

    def as_line(self) -> str:
        """Return it as one line of a spool file, and of what the database is given."""
        if not self._line:
            self._line = as_json({name: getattr(self, name) for name in self.__slots__ if name != "_line"})
        return self._line


def seal_renewal(
    token_set: TokenSet, tokens: TokenResponse, *, lease_owner: str, actor: User | None, trigger: str, now: datetime
) -> Renewal:
    """Seal an answer for the next generation of a row.

    A response without a refresh token leaves the old one in force. RFC 6749 §6, X-13.
    """
    generation = token_set.generation + 1
    row = _ACCESS.row_of(token_set, generation=generation)  # both columns are bound to the same
    kept_refresh_token = tokens.refresh_token or token_set.refresh_token_sealed.reveal()
    before = token_set.expires_at
    refresh_ends_at, known_since = _end_of_renewing(token_set, tokens, now=now)
    return Renewal(
        id=token_set.id,
        connection_id=token_set.connection_id,
        generation=generation,
        lease_owner=lease_owner,
        access_token_sealed=str.__str__(_ACCESS.seal_for(row, tokens.access_token)),
        refresh_token_sealed=str.__str__(_REFRESH.seal_for(row, kept_refresh_token)),
        token_type=tokens.token_type,
        scope=fitting_scope(tokens.scope),
        obtained_at=now,
        expires_at=tokens.expires_at,
        refresh_due_at=refresh_due_at(tokens, is_renewable=True, now=now, refresh_ends_at=refresh_ends_at),
        server=token_set.connection.server.slug,
        issuer=token_set.issuer,
        trigger=trigger,
        actor=str(actor.pk) if actor else "",
        seconds_left=round((before - now).total_seconds()) if before else None,
        refresh_ends_at=refresh_ends_at,
        refresh_end_known_since=known_since,
    )


def _end_of_renewing(
    token_set: TokenSet, tokens: TokenResponse, *, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """Return when the refresh token ends, and since when that is known; an end that moves with us is news each time."""
    before = token_set.refresh_ends_at
    ends_at = tokens.refresh_ends_at or (None if tokens.refresh_token else before)
    if ends_at is None:
        return None, None
    stays = before is not None and ends_at - before < (now - token_set.obtained_at) / 2
    return ends_at, token_set.refresh_end_known_since if stays else now


def read_renewal(line: str) -> Renewal:
    """Read a line of a spool file; `opened` says whether its values are any good.

    Raises:
        RenewalUnreadableError: It is no such line.
    """
    try:
        said = json.loads(line)
        for name in ("id", "connection_id"):
            said[name] = UUID(said[name])
        said["generation"], said["obtained_at"] = int(said["generation"]), datetime.fromisoformat(said["obtained_at"])
        for name in ("expires_at", "refresh_due_at", "refresh_ends_at", "refresh_end_known_since"):
            said[name] = datetime.fromisoformat(said[name]) if said.get(name) else None
        return Renewal(**said)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RenewalUnreadableError(type(error).__name__) from None


def opened(renewal: Renewal) -> tuple[Secret, Secret]:
    """Return the access token and the refresh token (empty: none) of a renewal.

    Raises:
        RenewalUnreadableError: They do not open here, for the row and generation that it names.
    """
    try:
        place = TokenSet(id=renewal.id, connection_id=renewal.connection_id, generation=renewal.generation)
        access_token = unseal(renewal.access_token_sealed, context=_ACCESS.context_of(place))
        if not renewal.refresh_token_sealed:
            return access_token, Secret("")
        return access_token, unseal(renewal.refresh_token_sealed, context=_REFRESH.context_of(place))
    except SecretUnreadableError as error:
        raise RenewalUnreadableError(error.detail) from None


def store_renewals(renewals: Sequence[Renewal], *, replayed_by: str | None = None) -> set[UUID]:
    """Keep renewed tokens whose lease still holds, with their audit records; return the ids of the rows written.

    Args:
        renewals: At most one for each row.
        replayed_by: None for whoever asked the server. Else they come from the spool of somebody who did not get to
            write them, and this is the owner that holds the leases now: rows of any older generation are written that
            are leased by it, by the one who died, or by nobody.
    """
    with transaction.atomic():
        written = _update(renewals, replayed_by=replayed_by)
        kept = [renewal for renewal in renewals if renewal.id in written]
        if kept:
            _activate(kept)
            append_many([_entry(renewal) for renewal in kept])
    return written


def _activate(kept: Sequence[Renewal]) -> None:
    """The usual case is one statement for many: same scope, same moment. Who waits for an administrator goes on to."""
    unstopped = Connection.objects.exclude(status=Connection.Status.ISSUER_CHANGED)
    alike: dict[tuple[str, datetime], list[UUID]] = {}
    for renewal in kept:
        alike.setdefault((renewal.scope, renewal.obtained_at), []).append(renewal.connection_id)
    for (scope, moment), ids in alike.items():
        unstopped.filter(pk__in=one_of(ids)).update(
            status=Connection.Status.ACTIVE,
            reason="",
            granted_scopes=scope,
            last_refreshed_at=moment,
            updated_at=moment,
        )


def _update(renewals: Sequence[Renewal], *, replayed_by: str | None) -> set[UUID]:
    lines = ",".join(renewal.as_line() for renewal in renewals)
    on_postgresql = connection.vendor == "postgresql"
    ids = [renewal.id for renewal in renewals]
    statement = _STATEMENT
    parameters: list[Any] = [f"[{lines}]", *([ids] if on_postgresql else [])]
    if replayed_by is not None:
        statement, parameters = _REPLAY, [*parameters, replayed_by]
    with connection.cursor() as cursor:
        cursor.execute(
            statement.format(
                recordset=recordset({**_WRITTEN, **_COMPARED}),
                now=database_clock(),
                id="t.id" if on_postgresql else "id",  # SQLite returns from the table alone
                in_order=_IN_ORDER if on_postgresql else "",
            ),
            parameters,
        )
        return returned(cursor, ids)


def database_clock(*, seconds: int = 0) -> str:
    """Return SQL for the database's own time, some seconds from now; for a statement with parameters."""
    if connection.vendor == "postgresql":
        return f"(statement_timestamp() + interval '{seconds} seconds')"
    return f"strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '{seconds} seconds')"


_ASSIGNED: Final = ", ".join(f"{name} = r.{name}" for name in _WRITTEN)
_RESET: Final = "lease_owner = '', lease_expires_at = NULL, refresh_failures = 0, next_attempt_at = NULL"
# Joined, they come in any order; see `lock_order`. The planner is not shown the ids: it would read a small table whole.
_IN_ORDER: Final = (
    "AND t.id IN (SELECT s.id FROM connections_tokenset s WHERE s.id = ANY((SELECT %s::uuid[])::uuid[])"
    " ORDER BY s.id FOR NO KEY UPDATE)"
)
_HEAD: Final = " ".join(
    ("UPDATE connections_tokenset AS t SET", _ASSIGNED, ",", _RESET, "FROM {recordset} WHERE t.id = r.id", "{in_order}")
)
_STATEMENT: Final = " ".join(
    (_HEAD, "AND t.generation = r.generation - 1 AND t.lease_owner = r.lease_owner RETURNING {id}")
)
_REPLAY: Final = " ".join(
    (
        _HEAD,
        "AND t.generation < r.generation",
        "AND (t.lease_owner IN ('', r.lease_owner, %s) OR t.lease_expires_at <= {now})",
        "AND EXISTS (SELECT 1 FROM connections_connection c WHERE c.id = t.connection_id",
        "AND (c.status IN ('active', 'degraded') OR c.status = 'reauth_required'",
        "AND c.reason IN ('invalid_grant', 'refresh_outcome_lost'))) RETURNING {id}",
    )
)


def _entry(renewal: Renewal) -> Entry:
    # The first tokens of a grant without a person: for everybody who listens, that is when the connection was made.
    is_first = renewal.generation == 1
    return entry(
        AuditEvent.AUTHORIZATION_COMPLETED if is_first else AuditEvent.TOKEN_REFRESHED,
        actor=renewal.actor or None,
        server=renewal.server,
        connection=renewal.connection_id,
        details={
            "expires_at": renewal.expires_at,
            "generation": renewal.generation,
            "trigger": renewal.trigger,
            "issuer": renewal.issuer,
            "seconds_left": renewal.seconds_left,
        },
    )
