"""Server-Sent Events: who hears what, and from where on."""

from __future__ import annotations

import asyncio

import pytest
from django.contrib.auth.models import User

from connections.models import Connection, McpServer
from connections.services import connection_for, shared_connection
from oauthflow.api.events import event_frames
from oauthflow.events import emit
from oauthflow.models import Event, EventType
from oauthflow.streams import stream
from oauthflow.streams.reader import EventReader
from oauthflow.streams.stream import Stream
from oauthflow.streams.tickets import Ticket

from .listening import browser_of, in_thread, program_of, site

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server(db: None) -> McpServer:
    return McpServer.objects.create(
        slug="notes", name="Notes", url="https://notes.example.com/mcp", connection_policy="shared_with_personal"
    )


@pytest.fixture
def connection(server: McpServer, alice: User) -> Connection:
    return connection_for(alice, server, actor=alice)


def told(connection: Connection, *, times: int = 1) -> list[int]:
    """Let something happen to a connection; return the cursors."""
    return [emit(EventType.TOKEN_REFRESHED, connection).cursor for _ in range(times)]


@pytest.mark.parametrize("by", [program_of, browser_of])
async def test_an_event_arrives_by_itself(by: object, connection: Connection, alice: User) -> None:
    async with site() as here:
        heard = await here.listen(headers=await in_thread(by, alice))
        assert heard.status == 200
        assert heard.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (heard.headers["x-accel-buffering"], heard.headers["cache-control"]) == ("no", "no-store")
        assert "content-length" not in heard.headers
        cursors = await in_thread(told, connection)
        await heard.until(lambda now: now.ids == cursors)
        assert heard.frames[-1]["event"] == "token.refreshed"
        assert heard.frames[-1]["id"] == str(cursors[0])


async def test_nobody_hears_somebody_elses_events(
    connection: Connection, server: McpServer, alice: User, bob: User
) -> None:
    bobs = await in_thread(connection_for, bob, server, actor=bob)
    async with site() as here:
        alice_hears = await here.listen(headers=await in_thread(program_of, alice))
        bob_hears = await here.listen(headers=await in_thread(program_of, bob))
        of_alice, of_bob = await in_thread(told, connection, times=3), await in_thread(told, bobs, times=3)
        await alice_hears.until(lambda now: len(now.ids) == 3)
        await bob_hears.until(lambda now: len(now.ids) == 3)
        assert (alice_hears.ids, bob_hears.ids) == (of_alice, of_bob)


async def test_what_is_shared_is_heard_by_whoever_may_use_the_server(server: McpServer, alice: User, bob: User) -> None:
    await in_thread(server.users.set, [alice])
    shared = await in_thread(shared_connection, server)
    bobs = await in_thread(connection_for, bob, server, actor=bob)
    async with site() as here:
        alice_hears = await here.listen(headers=await in_thread(program_of, alice))
        bob_hears = await here.listen(headers=await in_thread(program_of, bob))
        of_all, of_bob = await in_thread(told, shared), await in_thread(told, bobs)
        await bob_hears.until(lambda now: now.ids == of_bob)
        await alice_hears.until(lambda now: now.ids == of_all)


async def test_a_stream_of_one_connection_tells_of_it_alone(
    connection: Connection, server: McpServer, alice: User
) -> None:
    other = await in_thread(connection_for, alice, server, label="work", actor=alice)
    async with site() as here:
        path = f"/api/v1/connections/{connection.pk}/events"
        heard = await here.listen(path, headers=await in_thread(program_of, alice))
        await in_thread(told, other)
        wanted = await in_thread(told, connection)
        await heard.until(lambda now: bool(now.ids))
        assert heard.ids == wanted


async def test_a_stream_of_somebody_elses_connection_is_not_found(connection: Connection, bob: User) -> None:
    async with site() as here:
        headers = await in_thread(program_of, bob)
        foreign = await here.listen(f"/api/v1/connections/{connection.pk}/events", headers=headers)
        unknown = await here.listen("/api/v1/connections/nothing/events", headers=headers)
        assert (foreign.status, unknown.status) == (404, 404)
        await foreign.until(lambda now: now.is_over)
        assert foreign.headers["content-type"] == "application/json"
        assert here.application.places.taken == 0


@pytest.mark.parametrize(("headers", "status"), [({}, 401), ({"authorization": "Bearer mcp_x"}, 401)])
async def test_nobody_hears_nothing(headers: dict[str, str], status: int, db: None) -> None:
    async with site() as here:
        assert (await here.listen(headers=headers)).status == status


async def test_a_program_without_the_scope_is_refused(alice: User) -> None:
    async with site() as here:
        heard = await here.listen(headers=await in_thread(program_of, alice, "servers:read"))
        assert heard.status == 403


@pytest.mark.parametrize("how", ["header", "query"])
async def test_whoever_comes_back_misses_nothing_and_hears_nothing_twice(
    how: str, connection: Connection, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_PAGE", 7)
    headers = await in_thread(program_of, alice)
    heard_so_far: list[int] = []
    written = await in_thread(told, connection)
    cursor = written[0] - 1

    async def happen() -> None:
        for _ in range(12):
            written.extend(await in_thread(told, connection, times=5))

    async with site() as here:
        happening = asyncio.create_task(happen())
        while len(heard_so_far) < 61:
            said = {"last-event-id": str(cursor)} if how == "header" else {}
            asked = "" if how == "header" else f"after={cursor}"
            heard = await here.listen(headers={**headers, **said}, query=asked)
            await heard.until(lambda now: bool(now.ids))
            await heard.hang_up()
            heard_so_far += heard.ids
            cursor = heard.ids[-1]
        await happening
    assert heard_so_far == written


async def test_the_cursor_is_known_before_the_first_event(connection: Connection, alice: User) -> None:
    before = await in_thread(told, connection, times=3)
    async with site() as here:
        heard = await here.listen(headers=await in_thread(program_of, alice))
        await heard.until(lambda now: len(now.frames) == 2)
        assert heard.frames[-1] == {"id": str(before[-1])}
        assert heard.ids == []


@pytest.mark.parametrize("others", [0, 1])
async def test_what_happens_from_the_answer_on_is_heard(others: int, connection: Connection, alice: User) -> None:
    headers = await in_thread(program_of, alice)
    happened: list[int] = []
    async with site() as here:
        for _ in range(others):
            await here.listen(headers=headers)
        heard = await here.listen(headers=headers, at_answer=lambda: happened.extend(told(connection)))
        await heard.until(lambda now: bool(now.ids))
        assert heard.ids == happened


async def test_what_was_queued_before_it_was_known_which_connection_is_wanted_is_not_told(
    connection: Connection, server: McpServer, alice: User
) -> None:
    other = await in_thread(connection_for, alice, server, label="work", actor=alice)
    ticket = Ticket(alice.pk, "", "", None, None, frames=event_frames(after=None))
    opened = Stream(ticket, reader=EventReader(), joined_at=0)
    events = await in_thread(lambda: [emit(EventType.TOKEN_REFRESHED, each) for each in (other, connection)])
    for event in events:
        opened.offer(event)
    opened.connection_id = connection.pk
    assert await opened.event() == events[1]
    assert await opened.event(seconds=0) is None


async def test_a_cursor_from_the_future_is_refused(alice: User) -> None:
    async with site() as here:
        heard = await here.listen(headers={**await in_thread(program_of, alice), "last-event-id": "99"})
        assert heard.status == 400
        assert here.application.places.taken == 0


async def test_events_of_concurrent_writers_arrive_in_the_order_of_their_cursors(
    connection: Connection, alice: User
) -> None:
    async with site() as here:
        heard = await here.listen(headers=await in_thread(program_of, alice))
        await asyncio.gather(*(in_thread(told, connection, times=5) for _ in range(4)))
        await heard.until(lambda now: len(now.ids) == 20)
        assert heard.ids == await in_thread(lambda: [event.cursor for event in Event.objects.all()])


async def test_a_quiet_stream_says_that_it_is_there(alice: User) -> None:
    async with site(heartbeat_seconds=0.05) as here:
        heard = await here.listen(headers=await in_thread(program_of, alice))
        await heard.until(lambda now: now.text.count("\n: \n") >= 3)
        assert heard.events == []
