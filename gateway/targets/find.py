"""Where a call goes, and with whose access: the connection of this person, or the shared one, never anybody else's.

Asked of the database on each call. What is plain is answered at once; everything else is left to the flows that also
serve REST: they renew, wait for each other, and say why nothing can be done.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from connections.database_time import offset
from connections.models import Connection, McpServer
from oauthflow.hot_path.opened import OpenedRows
from oauthflow.hot_path.questions import PATIENCE_SECONDS, UNANSWERED, Answer, Asker, Question, as_uuid, open_asker
from oauthflow.hot_path.shared_refreshes import SharedRefreshes
from oauthflow.hot_path.threads import Threads
from oauthflow.hot_path.uses import USE_IS_OLD_AFTER, NotedUses
from oauthflow.newest import Newest
from oauthflow.protocol.codes import REASONS
from oauthflow.protocol.errors import FlowError, SecretUnreadableError
from oauthflow.protocol.secret import Secret

from ..endpoint.answers import BusyError
from ..person_needed.reasons import NeedsPersonError, Reason, needs_person
from .by_flows import FRESH_REFUSED, Asked, find_access, give_up
from .credentials import Credentials, granted_credentials, is_for_this_server
from .statements import SERVER, TARGET, StoredGrant, StoredServer, StoredTarget
from .target import ServerRow, Target, server_row

if TYPE_CHECKING:
    from uuid import UUID

    from ..callers.caller import Caller

__all__ = [
    "TARGETS",
    "NeedsPersonError",
    "NotServedError",
    "Reason",
    "ServerRow",
    "Target",
    "Targets",
    "find_server",
    "find_target",
    "holds",
    "renew",
]

_SERVERS: Final = 1000
_OPENED: Final = 2000
_SERVER_SECONDS: Final = 1.0
_FLOWS: Final = 16
_THREADS: Final = 8
_WAIT_SECONDS: Final = 5
_UNCONNECTED: Final = (None, Connection.Status.PENDING, Connection.Status.REVOKED)

_log = structlog.get_logger(__name__)


class NotServedError(Exception):
    """No such server behind the gateway, or not for this person: both are told the same. Public contract, section 4."""


@dataclass(slots=True)
class _Kept:
    seen_at: float
    stored: StoredServer
    server: ServerRow


@dataclass(slots=True)
class _Found:
    """What the database says now; without `credentials` the flows have to be asked. `is_due`: for other ones."""

    server: ServerRow
    stored: StoredTarget
    label: str
    credentials: Credentials | None
    is_due: bool

    def is_with(self, target: Target) -> bool:
        """Whether it is what that target has."""
        grant = self.stored.grant
        return (
            self.stored.connection_id == target.connection_id
            and grant is not None
            and grant.generation == target.generation
        )

    def as_target(self, credentials: Credentials) -> Target:
        stored = self.stored.grant
        if not self.server.is_oauth or stored is None:
            return Target(self.server, credentials, label=self.label, grant=self.server.own_grant)
        connection_id, name = self.stored.connection_id, self.stored.grant_name
        return Target(self.server, credentials, connection_id, stored.generation, self.label, name)


class Targets:
    """Finds them; `open` before and `close` after. All methods belong to the event loop's thread.

    `threads` are for what asks the database on behalf of a call; `flows` for what may wait for a sign-in service, which
    keeps nobody else waiting.
    """

    def __init__(self) -> None:
        self._servers: Newest[str, _Kept] = Newest(most=_SERVERS)
        self._opened: OpenedRows[StoredGrant, Credentials] = OpenedRows(size=_OPENED)
        self._state: object = None
        self._standing: dict[tuple[UUID, int, str], Target] = {}

    async def open(self) -> None:
        """Connect to the database.

        Raises:
            RuntimeError: It is one that the gateway does not speak.
        """
        asker = open_asker(name="gateway-reader")
        if asker is None:
            raise RuntimeError("The gateway needs SQLite or PostgreSQL.")
        self._asker: Asker = asker
        self._refreshes = SharedRefreshes()
        self._uses = NotedUses(name="gateway-uses")
        self.threads = Threads(_THREADS, name="gateway-thread", patience_seconds=PATIENCE_SECONDS)
        self.flows = Threads(_FLOWS, name="gateway-flow")

    async def close(self) -> None:
        """Finish refreshes and what else is under way, and let go of the database."""
        for part in (self._refreshes, self.flows, self.threads, self._uses, self._asker):
            await part.close()
        self._servers.clear()
        self._standing.clear()

    async def find_server(self, slug: str) -> ServerRow | None:
        """Return a server that the gateway serves, as it was at most a second ago; `find_target` looks again.

        Raises:
            BusyError: The database does not answer.
        """
        kept = self._servers.get(slug)
        if kept is not None and monotonic() - kept.seen_at < _SERVER_SECONDS:
            return kept.server
        stored = await self.ask(SERVER, slug)
        return self._server(stored) if stored else None

    async def find_target(self, server: ServerRow, *, caller: Caller, label: str = "") -> Target:
        """Return what to reach a server with.

        Args:
            server: Of `find_server`; the target has it as it is now.
            caller: For whom.
            label: Which of their connections; empty: the one that was connected last, their own before a shared one.

        Raises:
            NotServedError: It is not served any more, or not to them.
            NeedsPersonError: Somebody has to do something first.
            BusyError: The database does not answer.
        """
        state, place = self._asker.state(), (server.id, caller.user_id, label)
        if state is not self._state:  # after a second at the latest
            self._state, self._standing = state, {}
        standing = self._standing.get(place)
        if standing is not None:
            return standing
        found = await self._look(server, caller=caller, label=label)
        if found.is_due and found.stored.may_renew:
            await self._refreshed(found, trigger="use")
            found = await self._look(server, caller=caller, label=label)
        if found.credentials is None or found.is_due:
            return await self._by_flows(found, caller=caller)
        target = found.as_target(found.credentials)
        if state is self._state:
            self._standing[place] = target
        return target

    async def holds(self, target: Target, *, caller: Caller) -> bool:
        """Whether somebody still has what was found for them; only the database is asked, and nothing renewed.

        Raises:
            BusyError: The database does not answer.
        """
        try:
            found = await self._look(target.server, caller=caller, label=target.label)
        except (NotServedError, NeedsPersonError):
            return False
        if found.credentials is None:
            return False
        now = found.as_target(found.credentials)
        return (now.connection_id, now.grant) == (target.connection_id, target.grant)

    async def renew(self, target: Target, *, caller: Caller) -> Target:
        """Return what to try once more with, after the server has answered 401.

        There is one refresh for all who were refused with the same tokens; where newer ones are there already, none.

        Raises:
            NotServedError: It is not served any more, or not to them.
            NeedsPersonError: There is nothing newer, and somebody has to do something first.
            BusyError: The database does not answer.
        """
        if target.connection_id is None:
            raise NeedsPersonError(Reason.CREDENTIAL_REFUSED, target.server)
        found = await self._look(target.server, caller=caller, label=target.label)
        if found.is_with(target) and found.stored.may_renew:
            await self._refreshed(found, trigger="refused")
            found = await self._look(target.server, caller=caller, label=target.label)
        if found.credentials is None or found.is_with(target):
            return await self._by_flows(found, caller=caller, refused=target.credentials.access_token)
        return found.as_target(found.credentials)

    async def give_up(self, target: Target, *, ends: bool) -> NeedsPersonError:
        """Return what to tell the person where the server refuses even what `renew` gave.

        Args:
            target: As `renew` returned it.
            ends: Whether the connection is over with that, for everybody who uses it.
        """
        server, connection_id = target.server, target.connection_id
        if connection_id is None:
            return NeedsPersonError(Reason.CREDENTIAL_REFUSED, server)
        if ends:
            await self.threads.run(partial(give_up, connection_id, generation=target.generation))
        return NeedsPersonError(
            Reason.REAUTHORIZE, server, connection_id=connection_id, label=target.label, detail=REASONS[FRESH_REFUSED]
        )

    async def _look(self, server: ServerRow, *, caller: Caller, label: str) -> _Found:
        """Ask anew; on every call, so that nothing that was ended meanwhile is used."""
        now = datetime.now(UTC)
        stored = await self.ask(TARGET, server.id, caller.user_id, label, now, now - USE_IS_OLD_AFTER)
        if stored is None:
            self._servers.pop(server.slug, None)
            raise NotServedError
        server = self._server(stored.server)
        if server.status == McpServer.Status.INACTIVE:
            raise NeedsPersonError(Reason.INACTIVE, server)
        if stored.connection_id is not None and stored.is_use_old:
            self._uses.note(stored.connection_id)
        credentials = self._plain(server, stored)
        due_at = None if credentials is None else credentials.due_at
        return _Found(server, stored, label, credentials, due_at is not None and due_at <= now + offset.value)

    def _plain(self, server: ServerRow, stored: StoredTarget) -> Credentials | None:
        """Return what may be sent without asking the flows, unless it is due."""
        if not server.is_oauth:
            if server.credentials is None:
                raise NeedsPersonError(Reason.KEY_MISSING, server)
            return server.credentials
        grant = stored.grant
        if grant is None or not grant.access_token_sealed or stored.connection_status not in Connection.WORKING:
            return None
        opened = self._opened.get(grant)
        if opened is None and is_for_this_server(grant):
            try:
                opened = granted_credentials(grant)
            except SecretUnreadableError:
                return None
            self._opened.keep(grant, opened)
        return opened

    async def _refreshed(self, found: _Found, *, trigger: str) -> None:
        grant = found.stored.grant
        if grant is not None:
            connection_id = str(as_uuid(grant.connection_id))
            await self._refreshes.wait_for(connection_id, generation=grant.generation, trigger=trigger)

    async def _by_flows(self, found: _Found, *, caller: Caller, refused: Secret | None = None) -> Target:
        server, connection_id, label = found.server, found.stored.connection_id, found.label
        needed = partial(NeedsPersonError, server=server, connection_id=connection_id, label=label)
        if found.stored.connection_status in _UNCONNECTED and not server.is_unattended:
            raise needed(Reason.CONNECT)
        if found.stored.connection_status == Connection.Status.ISSUER_CHANGED:
            raise needed(Reason.ISSUER_CHANGED)
        if found.stored.grant is not None and not is_for_this_server(found.stored.grant):
            raise needed(Reason.REAUTHORIZE)
        asked = Asked(server.id, caller.user_id, connection_id, label, refused)
        try:
            access = await self.flows.run(partial(find_access, asked))
        except FlowError as error:
            raise needs_person(error, server=server, connection_id=connection_id, label=label) from error
        return Target(server, access.credentials, access.connection_id, access.generation, label, access.grant)

    def _server(self, stored: StoredServer) -> ServerRow:
        """Return it under names; the same object as long as nothing changes."""
        kept = self._servers.get(stored.slug)
        if kept is None or kept.stored != stored:
            kept = self._servers[stored.slug] = _Kept(0.0, stored, server_row(stored))
        kept.seen_at = monotonic()
        return kept.server

    async def ask(self, question: Question[Answer], *asked: object) -> Answer | None:
        """Return the answer of the database, as it is at this moment.

        Raises:
            BusyError: It does not answer.
        """
        try:
            return await self._asker.ask(question, *asked)
        except UNANSWERED as error:
            _log.exception("the database does not answer the gateway")
            raise BusyError(
                503, "The gateway cannot look this up at the moment.", wait_seconds=_WAIT_SECONDS
            ) from error


TARGETS: Final = Targets()
"""Of this process."""
find_server, find_target = TARGETS.find_server, TARGETS.find_target
holds, renew = TARGETS.holds, TARGETS.renew
