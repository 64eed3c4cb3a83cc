"""The whole gateway in this process, with its database: tokens of ours, stored grants, and a server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from authserver.models import McpClient
from authserver.resources import gateway_resource
from authserver.revoked import REVOKED
from connections.models import Connection, McpServer, TokenSet
from tests.authserver.grants import make_client, make_consent, make_family, mint
from tests.fakes.world import World
from tests.oauthflow.asgi_calls import in_database

from .front import Front
from .upstream import Upstream, serving


def connect(world: World, user: User) -> Connection:
    """Give somebody a grant for the server `files`, which is behind the gateway."""
    world.server("files", gateway_enabled=True)
    connection = world.connect(user, slug="files", now=timezone.now())
    # They were made for the fake's address; the one on loopback is known later.
    TokenSet.objects.update(resource="")
    return connection


def move(world: World, url: str) -> None:
    """Let the fake tell at that address, where the server really is, how to sign in for it."""
    world.mcp_server.url = url
    world.internet[world.mcp_server.origin] = world.mcp_server


async def agree(world: World, user: User, link: str) -> None:
    """Open a link in that person's browser, and agree to all that is asked."""

    def agree() -> None:
        browser = Client()
        browser.force_login(user)
        away = browser.post(urlsplit(link).path)
        assert away.status_code == 303, away.content
        back = urlsplit(world.authorization_server.authorize(away.headers["Location"]))
        assert browser.get(back.path, dict(parse_qsl(back.query))).status_code == 303

    await in_database(agree)


def token_of(user: User, *, program: str = "program") -> str:
    """Return an access token for a program of theirs, good at `files`."""
    client = McpClient.objects.filter(client_id=program).first() or make_client(program)
    return mint(make_family(make_consent(user, client, resource=gateway_resource("files"))))


def bearer(user: User, *, program: str = "program") -> dict[str, str]:
    """Return the header that makes a request one of that person and program."""
    return {"Authorization": f"Bearer {token_of(user, program=program)}"}


@asynccontextmanager
async def opened(settings: Settings, upstream: Upstream) -> AsyncIterator[Front]:
    """Open the gateway as one process; several may be open at once."""
    front = Front(upstream)
    await front.gateway.open()
    try:
        yield front
    finally:
        await front.gateway.close()


@asynccontextmanager
async def whole(settings: Settings, **server: Any) -> AsyncIterator[Front]:
    """Open the gateway in front of a server that a test plays."""
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    REVOKED.forget()
    async with serving() as upstream:
        await in_database(lambda: McpServer.objects.update(url=upstream.url, **server))
        async with opened(settings, upstream) as front:
            yield front
