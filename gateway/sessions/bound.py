"""Sessions of servers up to revision 2025-11-25: which is whose. The modern revision has none.

A client never sees the server's own id. It gets one that nobody can guess and that is good for the same person,
program, server and grant only, or credential of the server where nobody has a grant; to everybody else it is as unknown
as one that never was. The table is the truth; what was used lately is kept in this process as well.

Spec: MCP 2025-11-25, transports, session management; security best practices, session hijacking. G-12 to G-14; A6 G08.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from oauthflow.newest import Newest
from oauthflow.protocol.errors import SecretUnreadableError
from oauthflow.protocol.secret import Secret

from ..models import LegacySession

if TYPE_CHECKING:
    from oauthflow.hot_path.threads import Threads

    from ..callers.caller import Caller
    from ..conf import GatewayConfiguration
    from ..targets.find import Target

_BYTES: Final = 32
OPENS_LINKS: Final = b".links"
"""The end of the ids of sessions whose clients can send their person to a link."""
_OUR_ID: Final = re.compile(rb"[A-Za-z0-9_-]{43}(?:\.links)?")
_KEPT: Final = 10_000
# Whoever ends a session ends it at its server too: it is no harm that other processes learn of it late.
_LOOKED_AT_SECONDS: Final = 60.0
_log = structlog.get_logger(__name__)


class _Session(NamedTuple):
    """What this process knows of one; well under a KiB."""

    holder: str
    upstream_id: str
    seen_at: float


class Sessions:
    """Binds sessions and tells whose they are. All methods belong to the event loop's thread.

    Args:
        limits: For how many and how long.
        threads: In which the table is asked.
        kept: How many are kept in memory.
    """

    def __init__(self, limits: GatewayConfiguration, *, threads: Threads, kept: int = _KEPT) -> None:
        self._idle = timedelta(seconds=limits.session_idle_seconds)
        self._most_of_a_user = limits.sessions_of_a_user
        self._kept: Newest[str, _Session] = Newest(most=kept)
        self._threads = threads

    async def bind(self, upstream_id: str, *, caller: Caller, target: Target, opens_links: bool = False) -> bytes:
        """Keep a session that a server has just begun.

        Args:
            upstream_id: The server's name for it.
            caller: Who sent `initialize`.
            target: Where it went, with which grant.
            opens_links: What `gateway.person_needed.answer.opens_links` says of that.

        Returns:
            The name for the client, to go out after this and not before: 256 random bits as visible ASCII.
        """
        session_id = secrets.token_urlsafe(_BYTES).encode() + (OPENS_LINKS if opens_links else b"")
        session = _Session(_holder(caller, target), upstream_id, monotonic())
        id_hash = _hash(session_id)
        row = LegacySession(
            id_hash=id_hash,
            user_id=caller.user_id,
            client_id=caller.client_id[:500],
            server_id=target.server.id,
            connection_id=target.connection_id,
            holder=session.holder,
            upstream_id_sealed=Secret(upstream_id),
            last_used_at=timezone.now(),
        )
        await self._threads.run(partial(_keep, row, most=self._most_of_a_user))
        self._kept[id_hash] = session
        return session_id

    async def upstream_id(self, session_id: bytes, *, caller: Caller, target: Target) -> str | None:
        """Return the server's name for a session; None where the client has to begin a new one.

        That is so for an id that never was, was forgotten or is old, and no different for one of somebody else, of
        another program or server, or of a grant that was ended or is another account's by now.
        """
        if not _OUR_ID.fullmatch(session_id):
            return None
        id_hash = _hash(session_id)
        session = self._kept.get(id_hash)
        if session is None or monotonic() - session.seen_at > _LOOKED_AT_SECONDS:
            session = await self._threads.run(partial(_look, id_hash, idle=self._idle))
        if session is None:
            self._kept.pop(id_hash, None)
            return None
        self._kept[id_hash] = session
        if session.holder == _holder(caller, target):
            return session.upstream_id
        _log.warning("a session was asked for that is bound to something else", user=caller.user_id)
        return None

    async def forget(self, session_id: bytes) -> None:
        """Forget a session that was ended by its client, or that the server does not know any more."""
        id_hash = _hash(session_id)
        self._kept.pop(id_hash, None)
        await self._threads.run(partial(_forget, id_hash))


def _hash(session_id: bytes) -> str:
    return hashlib.sha256(session_id).hexdigest()


def _holder(caller: Caller, target: Target) -> str:
    """Everything that a session is bound to; a new sign-in after a disconnect, or another account, is another grant."""
    there = (target.server.id, target.server.url, target.connection_id, target.grant)
    bound_to = (caller.user_id, caller.subject, caller.client_id, *there)
    return hashlib.sha256(repr(bound_to).encode()).hexdigest()


def _keep(row: LegacySession, *, most: int) -> None:
    """Insert it, in place of the least recently used where somebody has too many."""
    row.save(force_insert=True)
    of_user = LegacySession.objects.filter(user=row.user_id).order_by("-last_used_at")
    if surplus := list(of_user.values_list("pk", flat=True)[most:]):
        LegacySession.objects.filter(pk__in=surplus).delete()


def _look(id_hash: str, *, idle: timedelta) -> _Session | None:
    """Find it in the table, and note that it is used."""
    now = timezone.now()
    found = LegacySession.objects.in_use(since=now - idle).filter(pk=id_hash)
    row = found.first()
    if row is None:
        return None
    try:
        upstream_id = row.upstream_id_sealed.reveal().reveal()
    except SecretUnreadableError:
        _log.warning("a session cannot be opened; its client begins a new one")
        return None
    try:
        found.update(last_used_at=now)
    except (DatabaseError, InterfaceError):
        _log.warning("the last use of a session was not noted")
    return _Session(row.holder, upstream_id, monotonic())


def _forget(id_hash: str) -> None:
    LegacySession.objects.filter(pk=id_hash).delete()
