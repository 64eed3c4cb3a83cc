"""Tokens are locked before connections, and both by key: whatever comes together, nobody is stopped by a deadlock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.urls import reverse

from connections.leases import lease_for_refresh
from connections.models import ClientRegistration, Connection, McpServer, Revocation, ServerDiscovery, TokenSet
from connections.renewals import Renewal, seal_renewal, store_renewals
from connections.revocations import end_grants
from connections.server_changes import change_server, delete_server
from connections.services import connection_for, record_refresh_failure
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.flows.forget_registrations import forget_registrations
from oauthflow.flows.keep_discovery import approve_issuer_change
from oauthflow.flows.purge import purge_finished
from oauthflow.flows.register_client import lock_registrations
from oauthflow.flows.webhooks.configure import delete_webhook, stop_webhook
from oauthflow.hot_path import uses
from oauthflow.models import AuthorizationRequest, Webhook, WebhookDelivery
from oauthflow.protocol.errors import InvalidRequestError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.token_endpoint import TokenResponse
from tests.fakes.world import World
from tests.two_at_once import at_once, on_postgresql, one_behind_the_other

pytestmark = [pytest.mark.django_db(transaction=True), on_postgresql]

LOCKS_CONNECTION = r'SELECT .*FROM "connections_connection".* FOR NO KEY UPDATE'
WRITES_CONNECTION = r'UPDATE "connections_connection"'
LOCKS_TOKENS = r'SELECT .*FROM "connections_tokenset".* FOR NO KEY UPDATE'
STORES = r"UPDATE connections_tokenset AS t SET generation"


@pytest.fixture
def connection(world: World, alice: User, now: datetime) -> Connection:
    return world.connect(alice, now=now)


def renewed(token_set: TokenSet, *, now: datetime) -> Renewal:
    """An answer to a refresh that is under way."""
    assert lease_for_refresh(token_set, owner="owner", seconds=60)
    tokens = TokenResponse(Secret("at-new"), "Bearer", now + timedelta(hours=1), Secret("rt-new"), "")
    return seal_renewal(token_set, tokens, lease_owner="owner", actor=None, trigger="schedule", now=now)


def signing_in(world: World, connection: Connection, *, user: User, now: datetime) -> Callable[[], object]:
    """The moment at which somebody comes back from the service."""
    params, cookies = world.come_back(connection, user=user, now=now)
    return lambda: complete_authorization(params=params, user=user, cookies=cookies, now=now)


def test_a_sign_in_and_a_renewal(world: World, connection: Connection, alice: User, now: datetime) -> None:
    comes_back = signing_in(world, connection, user=alice, now=now)
    renewal = renewed(TokenSet.objects.select_related("connection__server").get(), now=now)

    at_once(comes_back, lambda: store_renewals([renewal]), holding=LOCKS_CONNECTION, taking=STORES)

    assert TokenSet.objects.get().generation == 2
    assert TokenSet.objects.get().access_token_sealed.reveal() != Secret("at-new")


def test_a_sign_in_and_a_refresh_that_failed(world: World, connection: Connection, alice: User, now: datetime) -> None:
    comes_back = signing_in(world, connection, user=alice, now=now)
    token_set = TokenSet.objects.select_related("connection__server").get()
    assert lease_for_refresh(token_set, owner="owner", seconds=60)

    def fail() -> None:
        record_refresh_failure(token_set, lease_owner="owner", code="timeout", next_attempt_at=None, actor=None)

    at_once(comes_back, fail, holding=LOCKS_CONNECTION, taking=r'UPDATE "connections_tokenset"')

    assert Connection.objects.get().status == "active"


def test_a_sign_in_and_a_disconnection(world: World, connection: Connection, alice: User, now: datetime) -> None:
    comes_back = signing_in(world, connection, user=alice, now=now)

    def disconnect() -> None:
        end_grants(list(Connection.objects.select_related("server")), actor=alice, reason="left", now=now)

    at_once(comes_back, disconnect, holding=LOCKS_CONNECTION, taking=LOCKS_TOKENS)

    assert Connection.objects.get().status == "revoked"
    assert not TokenSet.objects.exists()


def test_a_first_sign_in_and_a_disconnection_leave_nothing_good(world: World, alice: User, now: datetime) -> None:
    comes_back = signing_in(world, world.connection(alice), user=alice, now=now)

    def disconnect() -> None:
        end_grants(list(Connection.objects.select_related("server")), actor=alice, reason="left", now=now)

    at_once(comes_back, disconnect, holding=LOCKS_CONNECTION)

    assert Connection.objects.get().status == "revoked"
    assert not TokenSet.objects.exists()
    assert Revocation.objects.filter(kind="grant").count() == 1


def test_sign_ins_at_one_server_do_not_wait_for_each_other(world: World, alice: User, bob: User, now: datetime) -> None:
    comes_back = signing_in(world, world.connection(alice), user=alice, now=now)
    other_comes_back = signing_in(world, world.connection(bob), user=bob, now=now)

    stores = r'INSERT INTO "connections_tokenset"'
    assert not at_once(comes_back, other_comes_back, holding=LOCKS_CONNECTION, taking=stores)


def test_an_approval_of_another_service_and_a_renewal(connection: Connection, alice: User, now: datetime) -> None:
    renewal = renewed(TokenSet.objects.select_related("connection__server").get(), now=now)
    ServerDiscovery.objects.update(new_issuer="https://elsewhere.example")

    at_once(
        lambda: approve_issuer_change(connection.server, actor=alice, now=now),
        lambda: store_renewals([renewal]),
        holding=WRITES_CONNECTION,
        taking=STORES,
    )

    assert Connection.objects.get().status == "reauth_required"
    assert not TokenSet.objects.exists()


def test_a_first_sign_in_and_a_new_target(world: World, alice: User, administrator: User, now: datetime) -> None:
    comes_back = signing_in(world, world.connection(alice), user=alice, now=now)
    server = McpServer.objects.get()
    server.url = "https://elsewhere.example/mcp"

    at_once(
        comes_back,
        lambda: change_server(server, actor=administrator, now=now, confirmed=True),
        holding=LOCKS_CONNECTION,
        taking=r'UPDATE "oauthflow_authorizationrequest"',
    )

    assert Connection.objects.get().status == "issuer_changed"


def test_a_sign_in_and_a_removal_in_another_window(
    world: World, connection: Connection, alice: User, client: Client, now: datetime
) -> None:
    comes_back = signing_in(world, connection, user=alice, now=now)
    end_grants([connection], actor=alice, reason="left", now=now)
    client.force_login(alice)

    at_once(
        comes_back,
        lambda: client.post(reverse("oauthflow:connection_remove", args=[connection.pk])),
        holding=LOCKS_CONNECTION,
        taking=r'DELETE FROM "oauthflow_authorizationrequest"',
    )

    assert not Connection.objects.exists()


def test_a_server_that_is_deleted_while_registrations_are_looked_through(
    world: World, alice: User, administrator: User, now: datetime
) -> None:
    server = world.server()
    world.connect(alice, now=now)
    ClientRegistration.objects.create(
        server=server, issuer="https://old.example", client_id="old", status="superseded",
        superseded_at=now - timedelta(days=1),
    )  # fmt: skip

    at_once(
        lambda: delete_server(server, actor=administrator, confirmed=True),
        lambda: forget_registrations(now=now),
        holding=r'DELETE FROM "connections_clientregistration"',
        taking=r'SELECT .*FROM "connections_mcpserver".* FOR NO KEY UPDATE',
    )

    assert not McpServer.objects.exists()


def test_whoever_waits_for_a_server_that_is_deleted_is_told(world: World, administrator: User) -> None:
    server = world.server()

    def wait() -> None:
        with pytest.raises(InvalidRequestError), transaction.atomic():
            lock_registrations(server)

    deletes = r'DELETE FROM "connections_mcpserver"'
    at_once(lambda: delete_server(world.server(), actor=administrator, confirmed=True), wait, holding=deletes)


def test_a_sign_in_that_vouches_for_others_and_the_end_of_all_of_them(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    vouched = connection_for(alice, world.server("vouched", identity_provider=connection.server), actor=alice)
    TokenSet.objects.create(id=UUID(int=1), connection=vouched, obtained_at=now, grant_type="token_exchange")
    comes_back = signing_in(world, connection, user=alice, now=now)

    def disconnect() -> None:
        end_grants(list(Connection.objects.select_related("server")), actor=alice, reason="left", now=now)

    at_once(comes_back, disconnect, holding=r'UPDATE "connections_tokenset" SET "connection_id"')

    assert not TokenSet.objects.exists()


def test_a_batch_of_renewals_and_the_end_of_many_grants(world: World, alice: User, now: datetime) -> None:
    server = world.server()
    for number in (3, 2, 1):  # as they lie in the table
        one = connection_for(alice, server, label=str(number), actor=alice)
        TokenSet.objects.create(id=UUID(int=number), connection=one, obtained_at=now, refresh_token_sealed=Secret("rt"))
    rows = TokenSet.objects.select_related("connection__server").in_bulk()
    renewals = [renewed(rows[UUID(int=number)], now=now) for number in (3, 1)]
    wanted = list(Connection.objects.select_related("server"))

    one_behind_the_other(
        TokenSet.objects.filter(pk=UUID(int=2)),
        lambda: end_grants(wanted, actor=alice, reason="left", now=now),
        lambda: store_renewals(renewals),
    )

    assert not TokenSet.objects.exists()


def test_a_webhook_that_is_deleted_while_this_site_stops_it(alice: User, now: datetime) -> None:
    webhook = Webhook.objects.create(url="https://hooks.example/", owner=alice, created_at=now)
    WebhookDelivery.objects.create(
        webhook=webhook, event_type="token.refreshed", event_cursor=1, next_attempt_at=now, give_up_at=now,
        created_at=now,
    )  # fmt: skip

    at_once(
        lambda: delete_webhook(webhook, actor=alice),
        lambda: stop_webhook(Webhook.objects.get(), because=Webhook.Trouble.GONE, now=now),
        holding=r'DELETE FROM "oauthflow_webhookdelivery"',
        taking=r'UPDATE "oauthflow_webhook"',
    )

    assert not Webhook.objects.exists()


def test_a_new_target_and_sign_ins_that_ran_out(world: World, alice: User, administrator: User, now: datetime) -> None:
    server = world.server()
    for number in (2, 1):  # as they lie in the table
        connection = connection_for(alice, server, label=str(number), actor=alice)
        request = AuthorizationRequest(
            connection=connection, user=alice, state_hash=str(number), initiated_at=now, expires_at=now
        )
        request.save(force_insert=True)
    server.url = "https://elsewhere.example/mcp"

    assert not at_once(
        lambda: change_server(server, actor=administrator, now=now, confirmed=True),
        lambda: purge_finished(now=now),
        holding=r'UPDATE "oauthflow_authorizationrequest"',
    )

    assert not AuthorizationRequest.objects.filter(status="pending").exists()


def test_uses_are_noted_of_what_nobody_else_is_writing(
    world: World, connection: Connection, alice: User, bob: User, now: datetime
) -> None:
    other = world.connection(bob)

    assert not at_once(
        lambda: end_grants([connection], actor=alice, reason="left", now=now),
        lambda: uses._note([connection.pk, other.pk]),
        holding=WRITES_CONNECTION,
    )

    assert list(Connection.objects.filter(last_used_at__isnull=False)) == [other]
