"""Events for programs that poll, and the rules for cursors."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from connections.services import require_reauthorization
from oauthflow.events import emit
from oauthflow.models import Event, EventType
from oauthflow.protocol.codes import Code
from tests.fakes.world import World
from tests.rest_clients import anonymous, in_browser, with_token

EVENTS = "/api/v1/events"


@pytest.fixture
def program(alice: User) -> APIClient:
    return with_token(alice, "connections:read")


def ids(answer: object) -> list[int]:
    return [event["id"] for event in answer.json()["events"]]


def test_who_polls_reads_every_event_once_and_in_order(program: APIClient, world: World, alice: User) -> None:
    connection = world.connection(alice)
    written = [emit(EventType.TOKEN_REFRESHED, connection).cursor for _ in range(5)]
    read, cursor, more = [], 0, True
    while more:
        page = program.get(EVENTS, {"after": cursor, "limit": 2}).json()
        read += [event["id"] for event in page["events"]]
        cursor, more = page["cursor"], page["has_more"]
    assert read == written
    assert program.get(EVENTS, {"after": cursor}).json() == {"events": [], "cursor": cursor, "has_more": False}


@pytest.mark.parametrize("limit", ["0", "00", "501", "x"])
def test_a_page_that_would_hold_nothing_or_too_much_is_refused(
    program: APIClient, world: World, alice: User, limit: str
) -> None:
    emit(EventType.TOKEN_REFRESHED, world.connection(alice))
    answer = program.get(EVENTS, {"after": 0, "limit": limit})
    assert (answer.status_code, answer.json()["message"]) == (400, "limit has to be a whole number from 1 to 500.")


def test_an_event_says_what_happened_and_where_to_go(program: APIClient, world: World, alice: User) -> None:
    connection = world.connection(alice)
    require_reauthorization(connection, reason=Code.INVALID_GRANT)
    (event,) = program.get(EVENTS).json()["events"]
    assert event["timestamp"].endswith("+00:00")
    assert {name: event[name] for name in event if name not in ("id", "timestamp")} == {
        "event": "reauthorization.required",
        "connection_id": str(connection.pk),
        "server": "notes",
        "message": "The access has ended. Please reconnect.",
        "code": "invalid_grant",
        "requires_user_action": True,
        "authorization_url": f"http://localhost:8000/connections/{connection.pk}",
    }


def test_nobody_reads_somebody_elses_events(world: World, alice: User, bob: User) -> None:
    connection = world.connection(alice)
    emit(EventType.TOKEN_REFRESHED, connection)
    program = with_token(bob, "connections:read")
    assert program.get(EVENTS).json()["events"] == []
    assert program.get(f"/api/v1/connections/{connection.pk}/events").status_code == 404
    assert anonymous().get(EVENTS).status_code == 401


def test_one_connection_has_its_own_events(program: APIClient, world: World, alice: User) -> None:
    mine, other = world.connection(alice), world.connection(alice, label="work")
    wanted = emit(EventType.TOKEN_REFRESHED, mine)
    emit(EventType.TOKEN_REFRESHED, other)
    answer = program.get(f"/api/v1/connections/{mine.pk}/events", headers={"Accept": "application/json"})
    assert ids(answer) == [wanted.cursor]


@pytest.mark.parametrize("cursor", ["1000000", "-1", "x", "1.5", "9" * 30, ""])
def test_a_cursor_that_no_event_has_had_is_refused(program: APIClient, cursor: str) -> None:
    for headers in ({}, {"Accept": "text/event-stream"}):
        answer = program.get(EVENTS, {"after": cursor}, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_refused_cursor_says_how_far_the_events_go(program: APIClient, world: World, alice: User) -> None:
    newest = emit(EventType.TOKEN_REFRESHED, world.connection(alice)).cursor
    message = program.get(EVENTS, {"after": newest + 1}).json()["message"]
    assert message.startswith(f"after={newest + 1} lies in the future: the newest event is {newest}.")


def test_a_session_without_the_root_of_the_site_gets_what_there_is_and_comes_back(world: World, alice: User) -> None:
    connection = world.connection(alice)
    first, second = (emit(EventType.TOKEN_REFRESHED, connection) for _ in range(2))
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(first.cursor)}
    answer = in_browser(alice).get(EVENTS, headers=headers)
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    text = answer.content.decode()
    assert f"id: {second.cursor}\nevent: token.refreshed\ndata: {{" in text
    assert f"id: {first.cursor}\n" not in text
    assert Event.objects.count() == 2
