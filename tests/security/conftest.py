"""The stage of the security tests: a person in a browser, the way to the service and back, and a program."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from authserver.models import Consent, McpClient, PendingAuthorization
from connections.models import Connection
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.models import AuthorizationRequest, Webhook, WebhookDelivery
from tests.fakes.world import World
from tests.rest_clients import in_browser, with_token

Params = dict[str, str]


@pytest.fixture
def browser(alice: User) -> Client:
    """Alice's browser."""
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def come_back(browser: Client, world: World) -> Callable[..., Params]:
    """Press Connect as Alice, agree at the service, and return what the browser is sent back with."""

    def come_back(slug: str = "notes", **form: str) -> Params:
        world.server(slug)
        away = browser.post(f"/connect/{slug}", form).headers["Location"]
        return dict(parse_qsl(urlsplit(world.authorization_server.authorize(away)).query))

    return come_back


@pytest.fixture
def person(alice: User) -> APIClient:
    """Alice's session, calling REST."""
    return in_browser(alice)


@pytest.fixture
def program(alice: User) -> APIClient:
    """A program of Alice's with every scope."""
    return with_token(alice)


@pytest.fixture
def initiate(world: World, person: APIClient) -> Callable[..., Any]:
    """Start a sign-in by REST."""

    def initiate(**body: object) -> Any:
        world.server()
        return person.post("/api/v1/oauth/initiate", {"server": "notes", **body})

    return initiate


@pytest.fixture
def alices(world: World, alice: User) -> World:
    """A server that only Alice may use, connected, with an attempt under way and a program."""
    server = world.server("alices-own")
    server.users.add(alice)
    connection = world.connect(alice, now=timezone.now(), slug="alices-own")
    AuthorizationRequest.objects.all().delete()
    start_authorization(connection, user=alice, now=timezone.now())
    with_token(alice)
    _watched_and_used(connection, alice)
    world.internet.calls.clear()
    return world


def _watched_and_used(connection: Connection, person: User) -> None:
    """A webhook with a delivery, a program that acts for this person, and one that waits for an answer."""
    now = timezone.now()
    webhook = Webhook.objects.create(owner=person, url="https://hook.example/alices-own", created_at=now)
    WebhookDelivery.objects.create(webhook=webhook, event_type="token.refreshed", give_up_at=now, created_at=now)
    client = McpClient.objects.create(client_id="alices-own", name="alices-own", redirect_uris=["https://c.example/cb"])
    asked = {"user": person, "client": client, "redirect_uri": "https://c.example/cb", "resource": "https://r.example"}
    Consent.objects.create(**asked, connection=connection, granted_at=now)
    PendingAuthorization.objects.create(
        **asked, connection=connection, registered_redirect_uri="https://c.example/cb", code_challenge="x" * 43,
        created_at=now, expires_at=now + timedelta(minutes=10),
    )  # fmt: skip
