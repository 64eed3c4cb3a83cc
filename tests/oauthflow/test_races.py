"""Many at the same moment, with real threads on the real database. Security notes S04, F02, R5."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import DEFAULT, Mock

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from audit.models import AuditRecord
from connections.models import ClientRegistration, Connection, Revocation, TokenSet
from connections.services import connection_for
from oauthflow.flows import complete_authorization as flow
from oauthflow.flows.access_token import UsableToken, usable_access_token
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.errors import AuthorizationRequiredError, StateError, TransportError
from tests.fakes.crowd import all_at_once
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.faults import fault

pytestmark = pytest.mark.django_db(transaction=True)


class SlowAnswer:
    """Holds the answer back for a moment, so that the others arrive meanwhile."""

    def __init__(self) -> None:
        self._never = threading.Event()

    def __call__(self) -> None:
        self._never.wait(timeout=0.5)


# S04
def test_of_twenty_callbacks_with_one_code_one_is_redeemed(world: World, alice: User, now: datetime) -> None:
    params, cookies = world.come_back(world.connection(alice), user=alice, now=now)
    world.authorization_server.before_token_answer = SlowAnswer()

    ended = all_at_once(20, lambda: complete_authorization(params=params, user=alice, cookies=cookies, now=now))

    assert len(world.authorization_server.token_requests) == 1
    assert [one.status for one in ended if isinstance(one, AuthorizationRequest)] == ["completed"]
    refused = [one for one in ended if isinstance(one, Exception)]
    assert [type(one) for one in refused] == [StateError] * 19
    assert {one.code for one in refused if isinstance(one, StateError)} == {"state_used"}
    assert Connection.objects.get().status == "active"
    assert AuditRecord.objects.filter(event="callback.rejected").count() == 19


@fault("F02")
def test_sixty_four_callers_of_one_due_token_cause_one_refresh_and_all_get_its_token(
    world: World, alice: User, now: datetime
) -> None:
    pk = world.connect(alice, now=now).pk
    world.authorization_server.before_token_answer = SlowAnswer()
    over = now + timedelta(seconds=3600)

    given = all_at_once(64, lambda: usable_access_token(Connection.objects.get(pk=pk), now=over))

    assert [one for one in given if isinstance(one, Exception)] == []
    assert len(world.authorization_server.refresh_requests) == 1
    renewed = TokenSet.objects.get()
    assert renewed.generation == 2
    assert {one.access_token for one in given if isinstance(one, UsableToken)} == {renewed.access_token_sealed.reveal()}


@fault("F12")
@pytest.mark.parametrize(
    ("answer", "error"),
    [(Answer(503), TransportError), (Answer(400, {"error": "invalid_grant"}), AuthorizationRequiredError)],
)
def test_of_many_callers_one_learns_of_the_failure_and_the_others_share_it(
    world: World, alice: User, now: datetime, answer: Answer, error: type[Exception]
) -> None:
    pk = world.connect(alice, now=now).pk
    world.authorization_server.refresh_answer = answer
    world.authorization_server.before_token_answer = SlowAnswer()
    over = now + timedelta(seconds=3600)

    ended = all_at_once(16, lambda: usable_access_token(Connection.objects.get(pk=pk), now=over))

    assert {type(one) for one in ended if not isinstance(one, error)} == set()
    assert len(world.authorization_server.refresh_requests) == 1


def test_sign_ins_that_register_at_the_same_time_all_come_through(world: World, alice: User, now: datetime) -> None:
    connection = world.connection(alice)

    started = all_at_once(6, lambda: start_authorization(connection, user=alice, now=now))

    assert [one for one in started if isinstance(one, Exception)] == []
    assert ClientRegistration.objects.filter(status="active").count() == 1
    used = set(AuthorizationRequest.objects.values_list("client_id", flat=True))
    assert used <= set(ClientRegistration.objects.values_list("client_id", flat=True))


def test_a_connection_is_made_once_however_many_ask(world: World, alice: User) -> None:
    server = world.server()

    made = all_at_once(10, lambda: connection_for(alice, server, actor=alice))

    assert Connection.objects.count() == 1
    assert {one.pk for one in made if isinstance(one, Connection)} == {Connection.objects.get().pk}


def test_a_sign_in_is_kept_though_the_database_fails_for_a_moment(
    world: World, alice: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, cookies = world.come_back(world.connection(alice), user=alice, now=now)
    stored = Mock(side_effect=[OperationalError("deadlock detected"), DEFAULT], wraps=flow.store_grant)
    monkeypatch.setattr(flow, "store_grant", stored)

    complete_authorization(params=params, user=alice, cookies=cookies, now=now)

    assert stored.call_count == 2
    assert AuthorizationRequest.objects.get().status == "completed"
    assert TokenSet.objects.get().generation == 1
    assert len(world.authorization_server.token_requests) == 1


def test_a_sign_in_is_stored_once_though_nobody_hears_that_it_was(
    world: World, alice: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, cookies = world.come_back(world.connection(alice), user=alice, now=now)
    finish, lost = flow._finish, iter([OperationalError("server closed the connection unexpectedly")])

    def unheard(*args: Any, **kwargs: Any) -> None:
        finish(*args, **kwargs)
        for error in lost:
            raise error

    monkeypatch.setattr(flow, "_finish", unheard)
    complete_authorization(params=params, user=alice, cookies=cookies, now=now)

    assert Connection.objects.get().status == "active"
    assert TokenSet.objects.get().generation == 1
    assert not Revocation.objects.exists()


def test_a_sign_in_that_cannot_be_stored_is_no_trouble_of_its_service(
    world: World, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, cookies = world.come_back(world.connection(alice), user=alice, now=timezone.now())
    monkeypatch.setattr(flow, "_STORE_SECONDS", -1)
    monkeypatch.setattr(flow, "store_grant", Mock(side_effect=OperationalError("the connection is lost")))
    browser = Client(raise_request_exception=False)
    browser.force_login(alice)
    browser.cookies.load(cookies)

    answer = browser.get("/api/v1/oauth/callback", params)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert b"database does not answer" in answer.content
