"""One MCP server, its authorization server, a person and a browser: the stage of most stories."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import parse_qsl, urlsplit

from django.contrib.auth.models import User

from connections.models import Connection, McpServer
from connections.services import connection_for
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.flows.start_authorization import bind_browser, start_authorization
from oauthflow.models import AuthorizationRequest

from .authorization_server import FakeAuthorizationServer
from .internet import FakeInternet
from .mcp_server import FakeMcpServer


@dataclass
class World:
    """`internet["https://…"] = fake` adds what a test needs besides."""

    internet: FakeInternet
    authorization_server: FakeAuthorizationServer = field(default_factory=FakeAuthorizationServer)
    mcp_server: FakeMcpServer = field(default_factory=FakeMcpServer)

    def __post_init__(self) -> None:
        self.internet[self.authorization_server.origin] = self.authorization_server
        self.internet[self.mcp_server.origin] = self.mcp_server

    def server(self, slug: str = "notes", **fields: object) -> McpServer:
        """Configure the fake as a server, unless it is already."""
        found = McpServer.objects.filter(slug=slug).first()
        return found or McpServer.objects.create(
            **{"slug": slug, "name": slug.title(), "url": self.mcp_server.url, **fields}
        )

    def connection(self, user: User, *, slug: str = "notes", label: str = "") -> Connection:
        """The user's connection to that server, not connected yet."""
        return connection_for(user, self.server(slug), label=label, actor=user)

    def come_back(
        self, connection: Connection, *, user: User, now: datetime, **start: object
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Start, be sent away, agree: return the callback's parameters and the browser's cookies."""
        started = start_authorization(connection, user=user, now=now, **start)
        bound = bind_browser(started.request, user=user, now=now)
        back = self.authorization_server.authorize(bound.redirect_url)
        return dict(parse_qsl(urlsplit(back).query)), {bound.cookie_name: bound.cookie_value.reveal()}

    def connect(self, user: User, *, now: datetime, slug: str = "notes", **start: object) -> Connection:
        """The whole way, to an active connection."""
        connection = self.connection(user, slug=slug)
        params, cookies = self.come_back(connection, user=user, now=now, **start)
        finished: AuthorizationRequest = complete_authorization(params=params, user=user, cookies=cookies, now=now)
        return finished.connection
