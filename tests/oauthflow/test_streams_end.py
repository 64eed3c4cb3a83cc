"""A stream ends with the right to it, and its place is free for the next."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.utils import timezone

from connections.models import ApiToken, Connection, McpServer
from connections.revocations import end_grants
from connections.services import connection_for, shared_connection
from oauthflow.events import emit
from oauthflow.models import EventType
from oauthflow.streams import stream
from oauthflow.streams.places import Places

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


def deactivate(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def revoke_tokens(user: User) -> None:
    ApiToken.objects.filter(user=user).update(revoked_at=timezone.now())


def narrow_tokens(user: User) -> None:
    ApiToken.objects.filter(user=user).update(scopes=["servers:read"])


def sign_out(user: User) -> None:
    Session.objects.all().delete()


def change_password(user: User) -> None:
    user.set_password("another horse battery")
    user.save()


@pytest.mark.parametrize(
    ("by", "happens"),
    [
        (program_of, deactivate), (program_of, revoke_tokens), (program_of, narrow_tokens), (browser_of, deactivate),
        (browser_of, sign_out), (browser_of, change_password),
    ],
)  # fmt: skip
async def test_a_stream_ends_with_the_credential_it_was_opened_by(
    by: Callable[[User], dict[str, str]], happens: Callable[[User], None], alice: User, bob: User
) -> None:
    async with site() as here:
        heard = await here.listen(headers=await in_thread(by, alice))
        of_bob = await here.listen(headers=await in_thread(program_of, bob))
        await in_thread(happens, alice)
        await heard.until(lambda now: now.is_over)
        await heard.hang_up()
        assert not of_bob.is_over
        assert here.application.places.taken == 1


async def test_a_stream_of_a_deleted_connection_ends(connection: Connection, alice: User) -> None:
    async with site() as here:
        path = f"/api/v1/connections/{connection.pk}/events"
        heard = await here.listen(path, headers=await in_thread(program_of, alice))
        await in_thread(connection.delete)
        await heard.until(lambda now: now.is_over)


async def test_a_stream_about_one_connection_ends_with_its_grant_after_it_has_told_so(
    connection: Connection, alice: User
) -> None:
    path = f"/api/v1/connections/{connection.pk}/events"
    headers = await in_thread(program_of, alice)
    async with site() as here:
        heard = await here.listen(path, headers=headers)
        of_all = await here.listen(headers=headers)
        await in_thread(lambda: end_grants([connection], actor=alice, reason="", now=timezone.now()))
        await heard.until(lambda now: now.is_over)
        assert [event["event"] for event in heard.events] == ["credentials.revoked"]
        await of_all.until(lambda now: len(now.ids) == 1)
        assert not of_all.is_over
        again = await here.listen(path, headers=headers)
        await in_thread(emit, EventType.AUTHORIZATION_COMPLETED, connection)
        await again.until(lambda now: len(now.ids) == 1)
        assert not again.is_over


async def test_a_stream_of_a_shared_connection_ends_with_the_access_to_its_server(
    server: McpServer, alice: User, bob: User
) -> None:
    shared = await in_thread(shared_connection, server)
    async with site() as here:
        path = f"/api/v1/connections/{shared.pk}/events"
        alice_hears = await here.listen(path, headers=await in_thread(program_of, alice))
        bob_hears = await here.listen(path, headers=await in_thread(program_of, bob))
        await in_thread(server.users.set, [bob])
        await alice_hears.until(lambda now: now.is_over)
        assert not bob_hears.is_over


async def test_an_eleventh_stream_of_one_person_is_told_to_wait(alice: User, bob: User) -> None:
    async with site() as here:
        headers = await in_thread(program_of, alice)
        ten = [await here.listen(headers=headers) for _ in range(10)]
        assert {heard.status for heard in ten} == {200}
        refused = await here.listen(headers=headers)
        assert (refused.status, refused.headers["retry-after"]) == (429, "30")
        assert (await here.listen(headers=await in_thread(program_of, bob))).status == 200
        await ten[0].hang_up()
        assert (await here.listen(headers=headers)).status == 200


async def test_a_full_process_sends_people_elsewhere(alice: User, bob: User) -> None:
    async with site(places=Places(per_process=1)) as here:
        first = await here.listen(headers=await in_thread(program_of, alice))
        refused = await here.listen(headers=await in_thread(program_of, bob))
        assert (refused.status, refused.headers["retry-after"]) == (503, "30")
        await first.hang_up()
        assert (await here.listen(headers=await in_thread(program_of, bob))).status == 200


async def test_who_reads_too_slowly_is_ended_and_goes_on_by_the_cursor(
    connection: Connection, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "QUEUE", 3)
    headers = await in_thread(program_of, alice)
    async with site() as here:
        slow = await here.listen(headers=headers, reads=False)
        prompt = await here.listen(headers=headers)
        written = await in_thread(lambda: [emit(EventType.TOKEN_REFRESHED, connection).cursor for _ in range(3)])
        await prompt.until(lambda now: len(now.ids) == 3)
        written += await in_thread(lambda: [emit(EventType.TOKEN_REFRESHED, connection).cursor for _ in range(3)])
        await prompt.until(lambda now: len(now.ids) == 6)
        slow.may_send.set()
        await slow.until(lambda now: now.is_over)
        assert slow.ids == written[:3]
        again = await here.listen(headers={**headers, "last-event-id": str(slow.ids[-1])})
        await again.until(lambda now: len(now.ids) == 3)
        assert slow.ids + again.ids == written


async def test_when_the_site_stops_every_stream_ends_in_order(alice: User) -> None:
    async with site() as here:
        heard = [await here.listen(headers=await in_thread(program_of, alice)) for _ in range(3)]
        here.application.end_streams()
        for one in heard:
            await one.until(lambda now: now.is_over)
            assert one.text.endswith(": the site stops\n\n")


async def test_five_hundred_streams_cost_no_threads(server: McpServer, alice: User, db: None) -> None:
    headers = await in_thread(program_of, alice)
    async with site(places=Places(per_user=500)) as here:
        first = await here.listen(headers=headers)
        before = threading.active_count()
        everybody = [first, *[await here.listen(headers=headers) for _ in range(499)]]
        assert here.application.places.taken == 500
        assert threading.active_count() <= before + 2
        connection = await in_thread(connection_for, alice, server, actor=alice)
        event = await in_thread(emit, EventType.TOKEN_REFRESHED, connection)
        for heard in everybody:
            await heard.until(lambda now: now.ids == [event.cursor])
        assert threading.active_count() <= before + 2
