"""Who loses what when connections end, counted before anybody confirms it, and in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import Q

from .models import ApiToken, Connection, McpServer
from .models.api_token import ApiScope

_USES_CONNECTIONS: Final = frozenset({ApiScope.TOKENS_RELEASE, ApiScope.TOOLS_CALL})
_NAMED: Final = 3

ClientCounter = Callable[[Collection[int], datetime], int]
"""Counts the clients that act for these people at that moment, of a kind that is not known here."""
_counters: Final[dict[str, ClientCounter]] = {}


@dataclass(frozen=True, slots=True)
class Impact:
    """What ends.

    Attributes:
        connections: How many hold a grant.
        people: Who uses them: owners, and for a shared one everybody who may use its server.
        clients: Programs that act for one of them.
        servers: Names, in order.
    """

    connections: int
    people: int
    clients: int
    servers: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Say it, for a person who is about to confirm it."""
        if not self.connections:
            return "Nobody loses anything: no access is stored."
        who = _counted(self.people, "person", "people")
        if self.clients:
            who = f"{_counted(self.clients, 'client', 'clients')} and {who}"
        return f"{who} will lose access to {self._where} at once."

    @property
    def to_owner(self) -> str:
        """Say it to the one person whose connection it is."""
        who = "You"
        if self.clients:
            who += f" and {_counted(self.clients, 'client', 'clients')} that act{'s' * (self.clients == 1)} for you"
        return f"{who} will lose access to {self._where} at once."

    @property
    def _where(self) -> str:
        if len(self.servers) > _NAMED:
            return f"{len(self.servers)} servers"
        return " and ".join(filter(None, (", ".join(self.servers[:-1]), self.servers[-1])))


def register_clients(kind: str, counter: ClientCounter) -> None:
    """Count clients of this kind as well; call it in `AppConfig.ready`."""
    _counters[kind] = counter


def impact_of(connections: Iterable[Connection], *, now: datetime) -> Impact:
    """Count what ends with these connections.

    Args:
        connections: Any; those that hold no grant do not count.
        now: Aware UTC.
    """
    held = [one for one in connections if one.status not in (Connection.Status.PENDING, Connection.Status.REVOKED)]
    people = {one.user_id for one in held if one.user_id is not None}
    for server in {one.server for one in held if one.user_id is None}:
        people |= people_of(server)
    servers = sorted({one.server.name for one in held}, key=str.casefold)
    return Impact(len(held), len(people), clients_of(people, now=now) if held else 0, tuple(servers))


def people_of(server: McpServer) -> set[int]:
    """Return the ids of everybody who may use this server."""
    active = User.objects.filter(is_active=True)
    if server.users.exists() or server.groups.exists():
        active = active.filter(Q(mcp_servers=server) | Q(groups__mcp_servers=server))
    return set(active.values_list("pk", flat=True))


def clients_of(people: Collection[int], *, now: datetime) -> int:
    """Count the programs that use connections of these people."""
    tokens: Sequence[tuple[UUID, object]] = list(
        ApiToken.objects.valid(now=now).filter(user__in=people).values_list("pk", "scopes")
    )
    programs = sum(isinstance(scopes, list) and not _USES_CONNECTIONS.isdisjoint(scopes) for _, scopes in tokens)
    return programs + sum(count(people, now) for count in _counters.values())


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
