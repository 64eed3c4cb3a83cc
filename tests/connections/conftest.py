"""Servers, tokens and people for the tests of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

import pytest
from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient

from connections.api_tokens import issue_api_token
from connections.models import Connection, McpServer, TokenSet
from connections.models.api_token import ApiScope
from oauthflow.protocol.secret import Secret

MARKER = "s3cr3t-marker-7f1d"


@pytest.fixture
def server(db: None) -> McpServer:
    return McpServer.objects.create(name="Notes", slug="notes", url="https://notes.example.com/mcp")


@pytest.fixture
def granted(server: McpServer, alice: User, now: datetime) -> Connection:
    """Alice's active connection to the server, with tokens."""
    connection = Connection.objects.create(server=server, user=alice, status=Connection.Status.ACTIVE)
    tokens = TokenSet(connection=connection, obtained_at=now, issuer="https://as.example.com", client_id="c")
    tokens.token_endpoint, tokens.auth_method = "https://as.example.com/token", "none"
    tokens.access_token_sealed = Secret(f"access-{MARKER}")
    tokens.refresh_token_sealed = Secret(f"refresh-{MARKER}")
    tokens.save()
    return connection


@pytest.fixture
def client_of() -> Callable[..., APIClient]:
    """Make an API client that presents a token of this user with these scopes."""

    def make(user: User, scopes: Iterable[str] = tuple(ApiScope)) -> APIClient:
        client = APIClient()
        issued = issue_api_token(user, scopes=scopes, name="program", now=datetime.now().astimezone())
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {issued.token.reveal()}")
        return client

    return make


@pytest.fixture
def permit() -> Callable[..., User]:
    """Give a user permissions of the connections app; returns the user without cached permissions."""

    def give(user: User, *codenames: str) -> User:
        user.user_permissions.add(
            *Permission.objects.filter(content_type__app_label="connections", codename__in=codenames)
        )
        return User.objects.get(pk=user.pk)

    return give
