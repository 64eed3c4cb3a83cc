"""More scope than was granted: asked for a few times, always together with what there is."""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib.auth.models import User

from connections.models import Connection, TokenSet
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.flows.report_challenge import report_challenge
from oauthflow.flows.start_authorization import StartedAuthorization, bind_browser
from oauthflow.models import AuthorizationRequest
from tests.fakes.world import World
from tests.requirements import requirement


@pytest.fixture
def connection(world: World, alice: User, now: datetime) -> Connection:
    world.mcp_server.challenge_scope = "read"
    return world.connect(alice, now=now)


def wants(world: World, scope: str, *, user: User, now: datetime) -> StartedAuthorization | None:
    answer = report_challenge(
        Connection.objects.get(),
        user=user,
        status=403,
        www_authenticate=world.mcp_server.challenge(error="insufficient_scope", scope=scope),
        now=now,
    )
    assert (answer.action == "authorize") == (answer.started is not None)
    return answer.started


def agree(world: World, started: StartedAuthorization | None, *, user: User, now: datetime) -> AuthorizationRequest:
    assert started is not None
    bound = bind_browser(started.request, user=user, now=now)
    back = dict(parse_qsl(urlsplit(world.authorization_server.authorize(bound.redirect_url)).query))
    cookies = {bound.cookie_name: bound.cookie_value.reveal()}
    return complete_authorization(params=back, user=user, cookies=cookies, now=now)


@requirement("S-02", "S-07", "S-08")
def test_a_step_up_ends_with_both_scopes_and_the_old_token_works_until_then(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    world.mcp_server.scopes_supported = ["everything"]
    later = now + timedelta(minutes=11)
    started = wants(world, "write", user=alice, now=later)
    assert started is not None
    assert started.request.scope == "read write"
    assert Connection.objects.get().status == "active"
    assert TokenSet.objects.get().generation == 1

    finished = agree(world, started, user=alice, now=later)

    assert finished.connection.granted_scopes == "read write"
    assert TokenSet.objects.get().generation == 2


@requirement("S-08")
def test_what_was_asked_before_is_asked_again_although_less_was_granted(
    world: World, alice: User, now: datetime
) -> None:
    world.mcp_server.challenge_scope = "read export"
    world.authorization_server.token_overrides = {"scope": "read"}
    world.connect(alice, now=now)
    started = wants(world, "write", user=alice, now=now)

    assert started is not None
    assert started.request.scope == "export read write"


@requirement("S-09")
def test_a_server_that_refuses_what_was_agreed_to_twice_is_given_up(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    for _ in range(2):
        agree(world, wants(world, "write", user=alice, now=now), user=alice, now=now)

    assert wants(world, "write", user=alice, now=now) is None
    assert AuthorizationRequest.objects.count() == 3
    assert wants(world, "something else", user=alice, now=now) is not None
    assert wants(world, "write", user=alice, now=now + timedelta(minutes=10)) is not None


@requirement("S-08")
def test_scopes_of_another_authorization_server_are_not_asked_for_again(
    world: World, connection: Connection, alice: User, now: datetime
) -> None:
    Connection.objects.update(issuer="https://old.example", requested_scopes="old")

    started = wants(world, "write", user=alice, now=now)

    assert started is not None
    assert started.request.scope == "write"
