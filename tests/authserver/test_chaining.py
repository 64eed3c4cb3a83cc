"""Grants for servers whose upstream needs the person's own sign-in: one visit, and one life."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from audit.append import appended_last
from audit.events import AuditEvent
from audit.models import AuditRecord
from authserver.models import AuthorizationCode, Consent, PendingAuthorization
from connections.models import Connection, McpServer
from oauthflow.flows.revoke import revoke_connection
from oauthflow.models import AuthorizationRequest
from tests.fakes.world import World
from tests.requirements import requirement

from .asking import TYPED, address, ask, back, decide, host_of, registered

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def browser(alice: User, client: Client, world: World) -> Client:
    client.force_login(alice)
    world.server(gateway_enabled=True)
    return client


def _step(browser: Client, decision: str = "continue") -> HttpResponse:
    pending = PendingAuthorization.objects.latest("created_at")
    return browser.post(f"/oauth/authorize/{pending.pk}/upstream", {"decision": decision})


def _agree_there(browser: Client, world: World, away: HttpResponse) -> HttpResponse:
    """Be sent away, agree at the service, come back, and follow our own redirects until the client."""
    back_at = world.authorization_server.authorize(away.headers["Location"])
    answer = browser.get(f"{urlsplit(back_at).path}?{urlsplit(back_at).query}")
    while answer.status_code == 303 and not host_of(answer):
        answer = browser.get(answer.headers["Location"])
    return answer


@requirement("AS08", "P-01", "P-11", "P-14")
def test_our_own_consent_comes_first_then_the_sign_in_there_then_the_code(
    browser: Client, world: World, alice: User
) -> None:
    page = ask(browser, registered())
    assert page.status_code == 200
    assert not AuthorizationRequest.objects.exists()
    assert not any(name.startswith("mcp_flow") for name in browser.cookies)
    allowed = decide(browser, "allow")
    assert allowed.headers["Location"].endswith("/upstream")
    step = browser.get(allowed.headers["Location"])
    assert "sign in to Notes" in step.content.decode()
    assert not AuthorizationRequest.objects.exists()
    assert not AuthorizationCode.objects.exists()
    away = _step(browser)
    assert host_of(away) == "as.example"
    assert any(name.startswith("mcp_flow") for name in browser.cookies)
    answer = back(_agree_there(browser, world, away))
    assert answer["code"]
    assert answer["iss"] == settings.PUBLIC_URL
    consent = Consent.objects.get()
    assert consent.connection == Connection.objects.get(user=alice)
    assert consent.connection is not None
    assert consent.connection.status == Connection.Status.ACTIVE


@requirement("P-02")
def test_who_is_connected_already_goes_straight_on(browser: Client, world: World, alice: User) -> None:
    connection = world.connect(alice, now=timezone.now())
    ask(browser, registered())
    assert back(decide(browser, "allow"))["code"]
    assert Consent.objects.get().connection == connection


@requirement("AS08", "P-12")
def test_what_comes_back_in_another_browser_gives_nobody_a_code(browser: Client, world: World, alice: User) -> None:
    ask(browser, registered())
    decide(browser, "allow")
    back_at = world.authorization_server.authorize(_step(browser).headers["Location"])
    other = Client()
    other.force_login(alice)
    answer = other.get(f"{urlsplit(back_at).path}?{urlsplit(back_at).query}")
    assert (answer.status_code, host_of(answer)) == (403, "")
    assert not AuthorizationCode.objects.exists()


def test_the_person_may_give_up_before_the_sign_in_there(browser: Client) -> None:
    ask(browser, registered())
    decide(browser, "allow")
    assert back(_step(browser, "cancel"))["error"] == "access_denied"
    assert _step(browser, "cancel").status_code == 400
    assert _step(browser).status_code == 400
    assert not AuthorizationCode.objects.exists()


def test_a_refusal_there_is_said_and_can_be_tried_again(browser: Client, world: World) -> None:
    ask(browser, registered())
    decide(browser, "allow")
    away = _step(browser)
    state = dict(parse_qsl(urlsplit(away.headers["Location"]).query))["state"]
    denied = f"/api/v1/oauth/callback?error=access_denied&state={state}&iss=https://as.example"
    answer = browser.get(denied)
    page = browser.get(answer.headers["Location"])
    assert 'data-code="access_denied"' in page.content.decode()
    assert not AuthorizationCode.objects.exists()
    assert back(_agree_there(browser, world, _step(browser)))["code"]


def test_a_service_that_cannot_be_reached_is_said_on_the_page(browser: Client, world: World) -> None:
    McpServer.objects.update(url="https://10.0.0.1/mcp")
    ask(browser, registered())
    decide(browser, "allow")
    answer = _step(browser)
    assert answer.status_code == 200
    assert "That did not work" in answer.content.decode()


def test_the_form_of_that_step_may_end_at_the_client_as_well(browser: Client) -> None:
    client = registered(redirect_uris=["http://127.0.0.1/cb"])
    ask(browser, client, redirect_uri="http://127.0.0.1:4000/cb")
    step = browser.get(decide(browser, "allow").headers["Location"])
    assert "http://127.0.0.1:4000" in step.headers["Content-Security-Policy"]


@requirement("P-14", "AS14")
@pytest.mark.parametrize("delete", [False, True])
def test_disconnecting_upstream_ends_the_grant_that_stood_on_it(
    browser: Client, world: World, alice: User, delete: bool
) -> None:
    connection = world.connect(alice, now=timezone.now())
    ask(browser, registered())
    back(decide(browser, "allow"))
    if delete:
        with transaction.atomic(), appended_last():  # as the site does it
            connection.delete()
    else:
        revoke_connection(connection, actor=alice, reason="", now=timezone.now())
    consent = Consent.objects.get()
    assert consent.revoked_at is not None
    assert consent.token_families.get().ended_at is not None
    assert AuditRecord.objects.get(event=AuditEvent.CLIENT_GRANT_REVOKED).reason == "upstream_disconnected"


@requirement("P-14")
def test_a_connection_that_only_waits_for_a_sign_in_asks_for_it_and_keeps_the_grant(
    browser: Client, world: World, alice: User
) -> None:
    connection = world.connect(alice, now=timezone.now())
    client = registered(verified=True)
    ask(browser, client)
    back(decide(browser, "allow"))
    Connection.objects.update(status=Connection.Status.REAUTH_REQUIRED)
    remembered = browser.get(address(client), headers=TYPED)
    assert remembered.headers["Location"].startswith("/oauth/authorize/")
    step = browser.get(browser.get(remembered.headers["Location"]).headers["Location"])
    assert "sign in to Notes" in step.content.decode()
    assert back(_agree_there(browser, world, _step(browser)))["code"]
    assert Consent.objects.standing().get().connection == connection


def test_a_shared_connection_is_used_and_nobody_is_sent_to_make_one(browser: Client) -> None:
    McpServer.objects.update(connection_policy=McpServer.ConnectionPolicy.SHARED)
    ask(browser, registered())
    assert back(decide(browser, "allow"))["code"]
    assert Consent.objects.get().connection is None
