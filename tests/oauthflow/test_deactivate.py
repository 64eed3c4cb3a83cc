"""Whoever is deactivated is served nothing any more, and leaves nothing good behind at the services. Z06."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from audit.models import AuditRecord
from connections.api_tokens import issue_api_token
from connections.models import ApiToken, Connection, Revocation, TokenSet
from connections.models.api_token import ApiScope
from connections.services import shared_connection
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.flows.deactivate import end_deactivated
from oauthflow.flows.refresh.batch import Outcome, refresh_many
from oauthflow.flows.refresh.recovery import recover_abandoned
from oauthflow.flows.refresh_due import refresh_due, refresh_in_turn
from oauthflow.flows.revocation_outbox import revoke_due
from oauthflow.protocol.errors import AuthorizationRequiredError, StateError
from tests.fakes.world import World


@pytest.fixture
def connection(world: World, alice: User, now: datetime) -> Connection:
    issue_api_token(alice, scopes=[ApiScope.TOKENS_RELEASE], name="editor", now=timezone.now())
    return world.connect(alice, now=now)


def deactivate(user: User) -> None:
    """By whatever way: nothing here hears of it."""
    User.objects.filter(pk=user.pk).update(is_active=False)


def test_from_that_moment_on_nothing_is_renewed_or_given_out(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    deactivate(alice)
    with pytest.raises(AuthorizationRequiredError) as caught:
        usable_access_token(Connection.objects.get(), now=now)
    assert caught.value.reason == "user_deactivated"
    assert refresh_due(now=now + timedelta(days=1)) == {"refreshed": 0, "failed": 0}
    assert world.authorization_server.refresh_requests == []


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_run_that_has_begun_renews_nothing_more_of_theirs(
    world: World, connection: Connection, alice: User, bob: User, now: datetime, in_turn: bool
) -> None:
    world.connect(bob, now=now)
    due, listed = now + timedelta(days=1), Connection.objects.select_related("server")
    rows = list(TokenSet.objects.values_list("pk", "issuer"))
    assert len(listed) == 2  # read by now
    deactivate(alice)

    if in_turn:
        assert refresh_in_turn(listed, now=due) == {"refreshed": 1, "failed": 0}
    else:
        assert refresh_many(rows, now=due) == Outcome(refreshed=1)
    assert TokenSet.objects.get(generation=2).connection.user == bob


def test_nobody_follows_a_dead_owner_for_them(world: World, connection: Connection, alice: User, now: datetime) -> None:
    TokenSet.objects.update(lease_owner="0123456789abcdef-000000000000-0", lease_expires_at=timezone.now())
    deactivate(alice)
    assert recover_abandoned(now=now) == Outcome()
    assert world.authorization_server.refresh_requests == []


def test_the_worker_ends_what_they_hold_here_and_at_the_services(
    world: World, connection: Connection, alice: User, bob: User, now: datetime
) -> None:
    other = world.connect(bob, now=now)
    deactivate(alice)
    assert [end_deactivated(now=now), end_deactivated(now=now)] == [1, 0]
    revoke_due(now=now)
    assert len(world.authorization_server.revocations) == 2
    connection.refresh_from_db()
    assert (connection.status, connection.reason) == ("revoked", "user_deactivated")
    assert TokenSet.objects.get().connection_id == other.pk
    User.objects.update(is_active=True)
    assert not ApiToken.objects.valid(now=timezone.now()).exists()


def test_a_shared_connection_belongs_to_nobody_and_stays(world: World, administrator: User, now: datetime) -> None:
    world.server(connection_policy="shared")
    shared = shared_connection(world.server())
    params, cookies = world.come_back(shared, user=administrator, now=now)
    complete_authorization(params=params, user=administrator, cookies=cookies, now=now)
    deactivate(administrator)
    assert end_deactivated(now=now) == 0
    assert usable_access_token(Connection.objects.get(), now=now).access_token


def test_a_site_that_only_suspends_people_keeps_their_grants_unused(
    world: World, connection: Connection, alice: User, now: datetime, settings: Settings
) -> None:
    settings.MCP_OAUTH = {"revoke_deactivated": False}
    deactivate(alice)
    assert end_deactivated(now=now) == 0
    with pytest.raises(AuthorizationRequiredError):
        usable_access_token(Connection.objects.get(), now=now)
    User.objects.update(is_active=True)
    assert usable_access_token(Connection.objects.get(), now=now).access_token


def test_a_sign_in_that_comes_back_afterwards_is_not_kept(world: World, alice: User, now: datetime) -> None:
    connection = world.connection(alice)
    params, cookies = world.come_back(connection, user=alice, now=now)
    world.authorization_server.before_token_answer = lambda: deactivate(alice)
    with pytest.raises(StateError):
        complete_authorization(params=params, user=alice, cookies=cookies, now=now)
    assert not TokenSet.objects.exists()
    revoke_due(now=now)
    assert world.authorization_server.refresh_tokens == {}


# ---- In the admin


@pytest.fixture
def admin(administrator: User) -> Client:
    client = Client()
    client.force_login(administrator)
    return client


def form_of(user: User) -> dict[str, str]:
    joined = timezone.localtime(user.date_joined)
    return {
        "username": user.username, "email": user.email, "first_name": "", "last_name": "",
        "date_joined_0": joined.strftime("%Y-%m-%d"), "date_joined_1": joined.strftime("%H:%M:%S"),
    }  # fmt: skip


def test_the_administrator_is_asked_with_the_impact_before_somebody_is_deactivated(
    admin: Client, connection: Connection, alice: User
) -> None:
    address = f"/admin/auth/user/{alice.pk}/change/"
    asked = admin.post(address, form_of(alice)).content.decode()
    assert "1 client and 1 person will lose access to Notes at once." in asked
    assert 'name="username" value="alice"' in asked
    alice.refresh_from_db()
    assert alice.is_active
    assert TokenSet.objects.exists()

    answer = admin.post(address, {**form_of(alice), "confirmed": "yes"}, follow=True)
    assert "1 connection of alice ended" in answer.content.decode()
    alice.refresh_from_db()
    assert (alice.is_active, TokenSet.objects.exists(), Revocation.objects.count()) == (False, False, 1)
    ended = AuditRecord.objects.get(event="credentials.revoked")
    assert ended.reason == "user_deactivated"
    assert ended.actor == str(User.objects.get(username="root").pk)


def test_who_is_connected_to_nothing_is_deactivated_without_a_question(admin: Client, bob: User) -> None:
    admin.post(f"/admin/auth/user/{bob.pk}/change/", form_of(bob))
    bob.refresh_from_db()
    assert not bob.is_active


def test_other_changes_of_an_account_are_not_asked_about(admin: Client, connection: Connection, alice: User) -> None:
    admin.post(f"/admin/auth/user/{alice.pk}/change/", {**form_of(alice), "is_active": "on", "last_name": "Liddell"})
    alice.refresh_from_db()
    assert (alice.is_active, alice.last_name) == (True, "Liddell")


@pytest.mark.django_db(transaction=True)
def test_who_only_looks_at_an_account_holds_up_nobody_who_writes(admin: Client, alice: User) -> None:
    with CaptureQueriesContext(database) as executed:
        assert admin.get(f"/admin/auth/user/{alice.pk}/change/").status_code == 200
    assert not [each["sql"] for each in executed if each["sql"].startswith("BEGIN")]
