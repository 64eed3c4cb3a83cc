"""Sessions on their way through the gateway: begun, used, resumed, ended, and never anybody else's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from connections.models import Connection
from gateway.models import LegacySession
from oauthflow.flows.revoke import revoke_connection
from tests.fakes.world import World
from tests.oauthflow.asgi_calls import in_database
from tests.requirements import requirement

from .front import LEGACY, MODERN, Front, Received, legacy_call, modern_call
from .upstream import answers, in_turn
from .whole import bearer, connect, whole

pytestmark = pytest.mark.django_db(transaction=True)
INITIALIZED = b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}'
SESSION = "Mcp-Session-Id"


@dataclass
class Stage:
    """Two people with grants of their own, and what makes a request theirs."""

    world: World
    users: dict[str, User]
    alice: dict[str, str]
    alice_elsewhere: dict[str, str]
    bob: dict[str, str]
    connection: Connection


@pytest.fixture
def stage(world: World, alice: User, bob: User) -> Stage:
    connection, _ = connect(world, alice), connect(world, bob)
    elsewhere = bearer(alice, program="another")
    return Stage(world, {"alice": alice, "bob": bob}, bearer(alice), elsewhere, bearer(bob), connection)


@pytest_asyncio.fixture
async def gateway(stage: Stage, settings: Settings) -> AsyncIterator[Front]:
    async with whole(settings) as front:
        yield front


async def begin(gateway: Front, who: dict[str, str], upstream_id: str = "7") -> str:
    """Initialize, and return the id that the client gets."""
    gateway.upstream.behave = answers(INITIALIZED, headers={SESSION: upstream_id})
    answer = await gateway.ask(legacy_call(method="initialize", protocolVersion="2025-11-25"), who)
    assert (answer.status, answer.body) == (200, INITIALIZED)
    gateway.upstream.behave = answers()
    gateway.upstream.seen.clear()
    return answer.header("mcp-session-id") or ""


async def use(gateway: Front, session_id: str, who: dict[str, str], *, method: str = "POST", **more: str) -> Received:
    body = legacy_call() if method == "POST" else b""
    return await gateway.ask(body, {**LEGACY, **who, SESSION: session_id, **more}, method=method)


@requirement("G-11", "G-12", "G08", "H-02")
async def test_the_server_keeps_its_name_for_a_session_and_the_client_gets_another(
    gateway: Front, stage: Stage
) -> None:
    session_id = await begin(gateway, stage.alice)
    assert len(session_id) == 43
    for method in ("POST", "GET", "DELETE"):
        answer = await use(gateway, session_id, stage.alice, method=method, **{"Last-Event-ID": "e-9"})
        assert (answer.status, answer.header("mcp-session-id")) == (200, None)
        seen = gateway.upstream.seen[-1]
        assert (seen.method, seen.header(SESSION), seen.header("Last-Event-ID")) == (method, "7", "e-9")


@requirement("G-12", "G08", "H-02")
async def test_a_session_of_somebody_else_is_like_one_that_never_was(gateway: Front, stage: Stage) -> None:
    session_id = await begin(gateway, stage.alice)
    for method, id in ("POST", 1), ("GET", None), ("DELETE", None):
        never = await use(gateway, "x" * 43, stage.bob, method=method)
        for who in (stage.bob, stage.alice_elsewhere):
            answer = await use(gateway, session_id, who, method=method)
            assert (answer.status, answer.body) == (404, never.body)
            assert answer.json()["id"] == id
    assert gateway.upstream.seen == []
    assert (await use(gateway, session_id, stage.alice)).status == 200


@requirement("H-01", "G-03", "G-12")
async def test_a_session_proves_nothing(gateway: Front, stage: Stage) -> None:
    session_id = await begin(gateway, stage.alice)
    for method in ("POST", "GET", "DELETE"):
        answer = await gateway.ask(legacy_call(), {**LEGACY, SESSION: session_id, "Authorization": None}, method=method)
        assert answer.status == 401
    assert gateway.upstream.seen == []


@requirement("G-14", "G08")
async def test_the_modern_era_has_no_sessions(gateway: Front, stage: Stage) -> None:
    session_id = await begin(gateway, stage.alice)
    count = await in_database(LegacySession.objects.count)
    gateway.upstream.behave = answers(headers={SESSION: "8"})
    for presented in (session_id, "x" * 43):
        answer = await gateway.ask(modern_call(), {**MODERN, **stage.alice, SESSION: presented})
        assert (answer.status, answer.header("mcp-session-id")) == (200, None)
        assert gateway.upstream.seen[-1].header(SESSION) is None
    params = {"protocolVersion": "2025-11-25"}
    await gateway.ask(
        modern_call(method="initialize", **params),
        {**MODERN, **stage.alice, "Mcp-Method": "initialize", "Mcp-Name": None},
    )
    assert await in_database(LegacySession.objects.count) == count
    gateway.upstream.seen.clear()
    for method in ("GET", "DELETE"):
        answer = await gateway.ask(headers={**MODERN, **stage.alice, SESSION: session_id}, method=method)
        assert (answer.status, answer.header("allow")) == (405, "POST")
    assert gateway.upstream.seen == []


async def test_a_session_that_the_client_ends_is_forgotten(gateway: Front, stage: Stage) -> None:
    session_id, other = await begin(gateway, stage.alice), await begin(gateway, stage.alice, "8")
    gateway.upstream.behave = answers(b"", status=405, kind="")
    assert (await use(gateway, session_id, stage.alice, method="DELETE")).status == 405
    gateway.upstream.behave = answers(b"", status=204, kind="")
    assert (await use(gateway, session_id, stage.alice, method="DELETE")).status == 204
    gateway.upstream.behave = answers()
    gateway.upstream.seen.clear()
    assert (await use(gateway, session_id, stage.alice)).status == 404
    assert gateway.upstream.seen == []
    assert (await use(gateway, other, stage.alice)).status == 200


@requirement("G-09")
async def test_a_session_that_the_server_forgot_is_forgotten_and_its_words_are_relayed(
    gateway: Front, stage: Stage
) -> None:
    session_id = await begin(gateway, stage.alice)
    gone = b'{ "jsonrpc":"2.0", "id":null, "error":{"code":-32001,"message":"Session not found"} }'
    gateway.upstream.behave = in_turn(answers(gone, status=404), answers())
    answer = await use(gateway, session_id, stage.alice)
    assert (answer.status, answer.body) == (404, gone)
    assert (await use(gateway, session_id, stage.alice)).status == 404
    assert len(gateway.upstream.seen) == 1


@requirement("G-13")
@pytest.mark.parametrize("change", ["disconnected", "another account"])
async def test_a_session_ends_with_the_grant_that_it_was_begun_with(gateway: Front, stage: Stage, change: str) -> None:
    session_id = await begin(gateway, stage.alice)

    def changed() -> None:
        if change == "disconnected":
            revoke_connection(stage.connection, actor=stage.users["alice"], reason="", now=timezone.now())
            connect(stage.world, stage.users["alice"])
        else:
            Connection.objects.filter(pk=stage.connection.pk).update(upstream_subject="another")

    await in_database(changed)
    assert (await use(gateway, session_id, stage.alice)).status == 404
    assert gateway.upstream.seen == []
    again = await begin(gateway, stage.alice, "8")
    assert (await use(gateway, again, stage.alice)).status == 200


async def test_a_session_outlives_a_renewal_of_the_token(gateway: Front, stage: Stage) -> None:
    session_id = await begin(gateway, stage.alice)
    gateway.upstream.behave = in_turn(answers(status=401), answers())
    assert (await use(gateway, session_id, stage.alice)).status == 200
    assert [seen.header(SESSION) for seen in gateway.upstream.seen] == ["7", "7"]
    assert len({seen.header("Authorization") for seen in gateway.upstream.seen}) == 2
    assert (await use(gateway, session_id, stage.alice)).status == 200


async def test_what_is_no_session_binds_nothing(gateway: Front, stage: Stage) -> None:
    for status, upstream_id in (200, ""), (200, "a b"), (200, "x" * 1001), (200, "\u00e9"), (400, "7"), (202, "7"):
        gateway.upstream.behave = answers(INITIALIZED, status=status, headers={SESSION: upstream_id})
        answer = await gateway.ask(legacy_call(method="initialize"), stage.alice)
        assert (answer.status, answer.header("mcp-session-id")) == (status, None)
    assert await in_database(LegacySession.objects.count) == 0


async def test_only_initialize_begins_a_session(gateway: Front, stage: Stage) -> None:
    gateway.upstream.behave = answers(headers={SESSION: "7"})
    answer = await gateway.ask(legacy_call(), {**LEGACY, **stage.alice})
    assert (answer.status, answer.header("mcp-session-id")) == (200, None)
    assert json.loads(gateway.upstream.seen[0].body)["method"] == "tools/call"
