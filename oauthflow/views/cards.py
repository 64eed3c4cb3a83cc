"""What the pages show of servers and connections, read in a fixed number of queries."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from connections.impact import Impact, clients_of, impact_of
from connections.models import ApiToken, Connection, McpServer, ServerDiscovery, TokenSet
from connections.profiles import profile_of
from connections.services import may_connect, preferred
from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.scopes import format_scope, initial_scopes, parse_scope
from oauthflow.protocol.urls import parse_http_url

from .words import ScopeWords, describe_scopes, sentence_for

if TYPE_CHECKING:
    from django.contrib.auth.models import User

Policy = McpServer.ConnectionPolicy
Status = Connection.Status
_TONES: Final = {
    Status.ACTIVE: "good",
    Status.DEGRADED: "warn",
    Status.REAUTH_REQUIRED: "warn",
    Status.ISSUER_CHANGED: "bad",
    Status.KEY_UNAVAILABLE: "bad",
}
_NEEDS_PERSON: Final = (
    Status.PENDING,
    Status.REVOKED,
    Status.REAUTH_REQUIRED,
    Status.KEY_UNAVAILABLE,
    Status.ISSUER_CHANGED,
)
_HOLDS_GRANT: Final = (
    Status.ACTIVE,
    Status.DEGRADED,
    Status.REAUTH_REQUIRED,
    Status.ISSUER_CHANGED,
    Status.KEY_UNAVAILABLE,
)
TINTS: Final = 6


@dataclass(frozen=True, slots=True)
class ConnectionCard:
    """One connection as a person sees it.

    Attributes:
        connection: The row.
        tone: good, warn, bad or idle; never the only sign, the state stands beside it in words.
        sentence: Why it is not simply connected; may be empty.
        scopes: What was granted.
        expires_at: End of the access token, if it has one.
        has_ended: Whether that is over.
        renews: Whether it renews itself.
        renews_until: Until when, where the service named an end that stays.
        may_manage: Whether this person may reconnect and disconnect it.
        needs_oauth: Whether there is a sign-in at all.
        loss: What a disconnect takes away, and from whom; empty where this person cannot disconnect it.
        is_default: Whether it is the one of several that programs use which name none.
    """

    connection: Connection
    tone: str
    sentence: str
    scopes: list[ScopeWords]
    expires_at: datetime | None
    has_ended: bool
    renews: bool
    may_manage: bool
    needs_oauth: bool
    loss: str = ""
    is_default: bool = False
    renews_until: datetime | None = None

    @property
    def name(self) -> str:
        """The label, or who it belongs to."""
        return self.connection.label or ("Shared connection" if self.connection.is_shared else "My account")

    @property
    def needs_person(self) -> bool:
        """Whether the next step is a sign-in."""
        return self.needs_oauth and self.connection.status in _NEEDS_PERSON

    @property
    def needs_attention(self) -> bool:
        """Whether it worked once and does not come back by itself, and this person can do something about it."""
        return self.may_manage and self.holds_grant and self.connection.status not in Connection.WORKING

    @property
    def never_connected(self) -> bool:
        """Whether there has been nothing to reconnect to yet."""
        return self.connection.status in Connection.UNCONNECTED

    @property
    def holds_grant(self) -> bool:
        """Whether there is something to disconnect."""
        return self.connection.status in _HOLDS_GRANT


@dataclass(frozen=True, slots=True)
class ServerCard:
    """One server with the connections that this person may see."""

    server: McpServer
    issuer_host: str
    connections: list[ConnectionCard] = field(default_factory=list)
    may_connect: bool = False
    is_offered: bool = True

    @property
    def tint(self) -> int:
        """A colour of its own, the same on every page."""
        return zlib.crc32(self.server.slug.encode()) % TINTS

    @property
    def host(self) -> str:
        """Where the server is."""
        return host_of(self.server.url)

    @property
    def needs_oauth(self) -> bool:
        """Whether connecting means signing in."""
        return self.server.auth_type == McpServer.AuthType.OAUTH

    @property
    def is_unused(self) -> bool:
        """Whether nothing was ever connected here, so that there is nothing to show but the way to begin."""
        return all(card.needs_oauth and card.never_connected and not card.connection.label for card in self.connections)

    @property
    def needs_attention(self) -> bool:
        """Whether one of its connections waits for this person."""
        return any(card.needs_attention for card in self.connections)

    @property
    def has_own(self) -> bool:
        """Whether this person has connected an account of their own."""
        return any(not card.connection.is_shared and card.holds_grant for card in self.connections)


def server_cards(user: User) -> list[ServerCard]:
    """Return a card for every server that the user may use or is still connected to."""
    own_clients = clients_of([user.pk], now=timezone.now())
    usable = list(McpServer.objects.usable_by(user).select_related("discovery"))
    offered = {server.pk for server in usable}
    by_server: dict[object, list[Connection]] = {}
    for connection in _connections(user):
        by_server.setdefault(connection.server_id, []).append(connection)
    withdrawn = {
        one.server.pk: one.server for listed in by_server.values() for one in listed if one.server_id not in offered
    }
    return [
        _server_card(
            server, by_server.get(server.pk, []), user=user, is_offered=server.pk in offered, own_clients=own_clients
        )
        for server in sorted([*usable, *withdrawn.values()], key=lambda server: server.name.casefold())
    ]


def server_card(server: McpServer, *, user: User) -> ServerCard:
    """Return the card of one server that the user may use."""
    return _server_card(
        server, [one for one in _connections(user) if one.server_id == server.pk], user=user, is_offered=True
    )


def connection_card(connection: Connection, *, user: User, own_clients: int | None = None) -> ConnectionCard:
    """Return one connection as this user sees it.

    Args:
        own_clients: How many programs act for this user, where it is known already.
    """
    tokens: TokenSet | None = getattr(connection, "tokens", None)
    ends = tokens.expires_at if tokens else None
    may_manage = not connection.is_shared or user.has_perm("connections.manage_shared_connection")
    return ConnectionCard(
        connection=connection,
        tone=_TONES.get(Status(connection.status), "idle"),
        sentence=sentence_for(connection.reason),
        scopes=describe_scopes(connection.granted_scopes),
        expires_at=ends,
        has_ended=ends is not None and ends <= timezone.now(),
        renews=bool(tokens and tokens.is_renewable) and connection.status in Connection.WORKING,
        renews_until=tokens.renews_until if tokens else None,
        may_manage=may_manage,
        needs_oauth=connection.server.auth_type == McpServer.AuthType.OAUTH,
        loss=_loss(connection, user=user, own_clients=own_clients) if may_manage else "",
    )


def _loss(connection: Connection, *, user: User, own_clients: int | None) -> str:
    if connection.status not in _HOLDS_GRANT:
        return ""
    if connection.user_id != user.pk:
        return impact_of([connection], now=timezone.now()).sentence
    clients = clients_of([user.pk], now=timezone.now()) if own_clients is None else own_clients
    return Impact(1, 1, clients, (connection.server.name,)).to_owner


def asked_scopes(server: McpServer) -> list[ScopeWords]:
    """Return what a first sign-in would ask for, as far as it is known without asking anybody."""
    found = _discovery(server)
    known = found.authorization_server if found else None
    try:
        scope = initial_scopes(
            configured=server.scopes,
            challenge=found.challenge_scope if found else None,
            scopes_supported=found.scopes_supported if found else None,
            as_scopes_supported=known.metadata.scopes_supported if known else None,
        )
        return describe_scopes(format_scope(parse_scope(scope) | parse_scope(profile_of(server.profile).scopes)))
    except FlowError:
        return []


def issuer_host(server: McpServer) -> str:
    """Return the host of the sign-in service that is configured or was found; empty where it is not known yet."""
    found = _discovery(server)
    return host_of(server.issuer or (found.issuer if found else ""))


def host_of(url: str) -> str:
    """Return host and port of an address, empty for anything that is none."""
    try:
        return parse_http_url(url).authority if url else ""
    except FlowError:
        return ""


def live_api_tokens(user: User) -> Sequence[ApiToken]:
    """Return the programs' tokens that the user has not revoked."""
    return list(ApiToken.objects.filter(user=user, revoked_at__isnull=True))


def _connections(user: User) -> Sequence[Connection]:
    """Own ones, and shared ones where the server's policy lets them be used."""
    not_used = Q(user__isnull=True, server__connection_policy=Policy.PERSONAL)
    return list(Connection.objects.visible_to(user).exclude(not_used).select_related("tokens").distinct())


def _server_card(
    server: McpServer, found: list[Connection], *, user: User, is_offered: bool, own_clients: int | None = None
) -> ServerCard:
    default = _default(server, found)
    cards = [
        replace(connection_card(connection, user=user, own_clients=own_clients), is_default=connection.pk == default)
        for connection in found
    ]
    return ServerCard(
        server=server,
        issuer_host=issuer_host(server),
        connections=cards,
        may_connect=is_offered and may_connect(user, server),
        is_offered=is_offered,
    )


def _default(server: McpServer, found: list[Connection]) -> UUID | None:
    """Return which one of several is used where nobody names another; None where there is no choice."""
    chosen_from = [one for one in found if one.is_shared or server.connection_policy != Policy.SHARED]
    default = preferred(chosen_from) if len(chosen_from) > 1 else None
    return None if default is None or default.status not in _HOLDS_GRANT else default.pk


def _discovery(server: McpServer) -> ServerDiscovery | None:
    found: ServerDiscovery | None = getattr(server, "discovery", None)
    return found
