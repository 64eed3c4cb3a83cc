"""Whose access a call goes upstream with, and what is noticed by the very next call."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import models
from django.utils import timezone

from connections.models import Connection, McpServer, ServerDiscovery, TokenSet
from connections.sealing import Ciphertext
from connections.services import default_connection
from gateway.targets.find import NotServedError, Targets
from gateway.targets.statements import SERVER, TARGET, StoredGrant, StoredServer
from oauthflow.flows.revoke import revoke_connection
from oauthflow.protocol.secret import Secret
from tests.fakes.world import World
from tests.requirements import requirement

from .target_stage import Found, Stage, caller, do, find, play, reason_of, sent, set_stage, target_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stage(world: World, alice: User) -> Stage:
    return set_stage(world, alice)


def test_a_connected_person_calls_with_their_own_token(stage: Stage) -> None:
    (found,) = play(find(stage.alice))
    assert sent(found) == {"Authorization": f"Bearer {stage.token()}"}
    assert (target_of(found).connection_id, target_of(found).generation) == (stage.connection.pk, 1)
    assert target_of(found).server.url == stage.server.url
    assert stage.token() not in repr(found)


@requirement("T-02")
def test_nobody_calls_with_the_token_of_somebody_else(stage: Stage, bob: User) -> None:
    bobs = stage.connect(bob)
    alices, his = play(find(stage.alice), find(bob))
    assert sent(alices) != sent(his)
    assert target_of(his).connection_id == bobs.pk
    revoke_connection(bobs, actor=bob, reason="", now=timezone.now())
    assert reason_of(play(find(bob))[0]) == "connect"


CHANGES: dict[str, Callable[[Stage], object]] = {
    "the gateway is switched off": lambda stage: stage.configure(gateway_enabled=False),
    "the server becomes a local program": lambda stage: stage.configure(transport="stdio"),
    "the server is deleted": lambda stage: McpServer.objects.filter(pk=stage.server.pk).delete(),
    "the person is deactivated": lambda stage: User.objects.filter(pk=stage.alice.pk).update(is_active=False),
    "it is for others": lambda stage: stage.server.groups.add(Group.objects.create(name="others")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_is_not_served_any_more_is_not_found_by_the_next_call(
    stage: Stage, change: Callable[[Stage], object]
) -> None:
    before, after = play(find(stage.alice), do(lambda: change(stage)), find(stage.alice))
    assert sent(before)
    assert isinstance(after, NotServedError)


STATES: dict[str, tuple[Callable[[Stage], object], str]] = {
    "never connected": (lambda stage: stage.connection.delete(), "connect"),
    "disconnected": (
        lambda stage: revoke_connection(stage.connection, actor=stage.alice, reason="", now=timezone.now()),
        "connect",
    ),
    "the grant has ended": (
        lambda stage: (stage.own(status="reauth_required", reason="invalid_grant"), stage.expires_in(-1)),
        "reauthorize",
    ),
    "it is over and cannot be renewed": (lambda stage: stage.expires_in(-1, refresh_token_sealed=""), "reauthorize"),
    "another sign-in service": (
        lambda stage: stage.own(status="issuer_changed", reason="issuer_changed"),
        "issuer_changed",
    ),
    "the key is gone": (lambda stage: stage.tokens(access_token_sealed=Ciphertext("damaged")), "key_missing"),
    "switched off": (lambda stage: stage.configure(status="inactive"), "inactive"),
}


@pytest.mark.parametrize(("change", "reason"), STATES.values(), ids=STATES.keys())
def test_each_state_has_its_own_reason_and_sentence(
    stage: Stage, change: Callable[[Stage], object], reason: str
) -> None:
    _, after = play(find(stage.alice), do(lambda: change(stage)), find(stage.alice))
    assert reason_of(after) == reason
    assert str(after).startswith(("Notes ", "Notes:", "The access to Notes", "The stored access to Notes"))


@requirement("T-02")
@pytest.mark.parametrize(
    "change",
    [
        lambda stage: ServerDiscovery.objects.filter(server=stage.server).update(issuer="https://other.example"),
        lambda stage: stage.tokens(issuer="https://other.example"),
        lambda stage: stage.configure(url="https://elsewhere.example/mcp"),
        lambda stage: stage.configure(url="https://mcp.example/other"),
        lambda stage: stage.tokens(resource="https://mcp.example/mcp/below"),
    ],
    ids=["approved issuer", "issuer of the token", "other host", "other path", "resource of the token"],
)
def test_a_token_is_sent_to_its_own_resource_only(stage: Stage, change: Callable[[Stage], object]) -> None:
    _, after, expired = play(
        find(stage.alice),
        do(lambda: change(stage)),
        find(stage.alice),
        do(lambda: stage.own(status="reauth_required")),
        find(stage.alice),
    )
    assert [reason_of(after), reason_of(expired)] == ["reauthorize", "reauthorize"]


def test_a_token_is_sent_again_once_it_was_replaced(stage: Stage) -> None:
    def replace() -> None:
        row = TokenSet.objects.get(connection=stage.connection)
        row.generation += 1
        row.access_token_sealed = Secret("another")
        row.save()

    first, second = play(find(stage.alice), do(replace), find(stage.alice))
    assert sent(second) == {"Authorization": "Bearer another"} != sent(first)


def test_a_token_that_is_moved_to_another_row_does_not_open(stage: Stage, bob: User) -> None:
    bobs = TokenSet.objects.get(connection=stage.connect(bob))
    stage.tokens(access_token_sealed=bobs.access_token_sealed.ciphertext)
    assert reason_of(play(find(stage.alice))[0]) == "key_missing"


STATIC: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "none": ({"auth_type": "none"}, {}),
    "bearer": ({"auth_type": "bearer"}, {"Authorization": "Bearer s3cret"}),
    "header": ({"auth_type": "header", "header_name": "X-Key"}, {"X-Key": "s3cret"}),
}


@pytest.mark.parametrize(("fields", "headers"), STATIC.values(), ids=STATIC.keys())
def test_what_an_administrator_entered_serves_everybody(
    bob: User, fields: dict[str, Any], headers: dict[str, str]
) -> None:
    server = McpServer(slug="notes", name="Notes", url="https://mcp.example/mcp", gateway_enabled=True, **fields)
    if fields["auth_type"] != "none":
        server.static_credential_sealed = Secret("s3cret")
    server.save()
    (found,) = play(find(bob))
    assert sent(found) == headers
    assert target_of(found).connection_id is None
    assert "s3cret" not in repr(found)

    McpServer.objects.update(static_credential_sealed=Ciphertext("damaged"))
    if headers:
        assert reason_of(play(find(bob))[0]) == "key_missing"


def test_a_changed_credential_is_sent_by_the_next_call(bob: User) -> None:
    server = McpServer(
        slug="notes", name="Notes", url="https://a.example/mcp", auth_type="bearer", gateway_enabled=True
    )
    server.static_credential_sealed = Secret("old")
    server.save()

    def change() -> None:
        server.static_credential_sealed = Secret("new")
        server.save()

    held: list[bool] = []

    async def still_held(targets: Targets, before: list[Found]) -> None:
        held.append(await targets.holds(target_of(before[0]), caller=caller(bob)))

    first, second = play(find(bob), still_held, do(change), still_held, find(bob))
    assert [sent(first), sent(second)] == [{"Authorization": "Bearer old"}, {"Authorization": "Bearer new"}]
    assert target_of(first).server.version != target_of(second).server.version
    assert held == [True, False]


def _shared(stage: Stage, administrator: User, **columns: Any) -> Connection:
    stage.configure(connection_policy="shared")
    stage.server.refresh_from_db()
    shared = stage.connect(administrator)
    stage.configure(**columns)
    return shared


def test_whose_connection_is_used_is_the_policy_s_to_say(stage: Stage, administrator: User, bob: User) -> None:
    shared = _shared(stage, administrator)
    assert shared.user is None
    mine, his = stage.connection.pk, shared.pk
    chosen = {}
    for policy in ("personal", "shared", "shared_with_personal"):
        stage.configure(connection_policy=policy)
        alices, bobs = play(find(stage.alice), find(bob))
        chosen[policy] = [getattr(alices, "connection_id", None), getattr(bobs, "connection_id", None)]
    assert chosen == {"personal": [mine, None], "shared": [his, his], "shared_with_personal": [mine, his]}


def test_who_disconnects_their_own_falls_back_on_the_shared_one_but_not_who_has_to_sign_in_again(
    stage: Stage, administrator: User
) -> None:
    shared = _shared(stage, administrator, connection_policy="shared_with_personal")
    stage.own(status="reauth_required", reason="invalid_grant")
    stage.expires_in(-1)
    assert reason_of(play(find(stage.alice))[0]) == "reauthorize"
    revoke_connection(stage.connection, actor=stage.alice, reason="", now=timezone.now())
    assert target_of(play(find(stage.alice))[0]).connection_id == shared.pk


def test_of_several_connections_the_last_connected_is_used_unless_a_label_names_another(stage: Stage) -> None:
    work = stage.connect(stage.alice, label="work", at=timezone.now() + timedelta(seconds=5))
    found = play(find(stage.alice), find(stage.alice, label="work"), find(stage.alice, label="home"))
    assert [target_of(each).connection_id for each in found[:2]] == [work.pk, work.pk]
    assert reason_of(found[2]) == "connect"
    assert default_connection(stage.alice, stage.server) == work

    stage.connect(stage.alice, at=timezone.now() + timedelta(seconds=10))
    assert target_of(play(find(stage.alice))[0]).connection_id == stage.connection.pk
    assert default_connection(stage.alice, stage.server) == stage.connection


def test_the_use_of_a_connection_is_noted(stage: Stage) -> None:
    stage.own(last_used_at=None)
    play(find(stage.alice), find(stage.alice))
    noted = Connection.objects.get(pk=stage.connection.pk).last_used_at
    assert noted is not None
    play(find(stage.alice))
    assert Connection.objects.get(pk=stage.connection.pk).last_used_at == noted


def test_an_unknown_slug_is_not_served(stage: Stage) -> None:
    assert isinstance(play(find(stage.alice, slug="other"))[0], NotServedError)


_MODELS: dict[str, list[type[models.Model]]] = {
    "u": [User],
    "c": [Connection],
    "o": [Connection],
    "p": [Connection],
    "s": [McpServer],
    "k": [TokenSet],
    "d": [ServerDiscovery],
    "m": [McpServer.users.through, McpServer.groups.through],
    "g": [User.groups.through],
}


@pytest.mark.parametrize("question", [SERVER, TARGET])
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_every_table_and_column_of_a_statement_is_one_of_the_models(question: Any, database: str) -> None:
    statement: str = getattr(question, database)
    known = {(kind._meta.db_table, alias) for alias, kinds in _MODELS.items() for kind in kinds}
    assert set(re.findall(r"\b(?:FROM|JOIN)\s+(connections_\w+|auth_\w+)\s+(\w)\b", statement)) <= known
    for alias, column in set(re.findall(r"\b([ucopskdmg])\.(\w+)", statement)):
        columns = {field.column for kind in _MODELS[alias] for field in kind._meta.concrete_fields}
        assert column in columns, f"{alias}.{column}"


def test_the_columns_of_the_rows_have_their_names() -> None:
    own = {field.attname for field in McpServer._meta.concrete_fields}
    assert set(StoredServer._fields) - own == {"trust_version"}
    columns = {field.attname for kind in (TokenSet, Connection) for field in kind._meta.concrete_fields}
    assert set(StoredGrant._fields) - columns == {"approved_issuer", "server_url", "accepted_resource"}


def grant_of(stage: Stage) -> str:
    return target_of(play(find(stage.alice))[0]).grant


@requirement("H-02")
def test_a_grant_keeps_its_name_until_it_ends_or_is_of_another_account(stage: Stage) -> None:
    """What sessions are bound to. G-13."""
    first = grant_of(stage)
    stage.expires_in(0)
    assert grant_of(stage) == grant_of(stage) == first
    assert TokenSet.objects.get().generation > 1
    stage.own(upstream_subject="somebody else")
    second = grant_of(stage)
    revoke_connection(stage.connection, actor=stage.alice, reason="", now=timezone.now())
    stage.connect(stage.alice)
    stage.own(upstream_subject="somebody else")
    assert len({first, second, grant_of(stage)}) == 3


def test_a_grant_without_a_person_has_its_name_from_the_first_call_on(world: World, alice: User) -> None:
    world.authorization_server.grant_types = ["client_credentials"]
    robot = {"grant_type": "client_credentials", "client_id": "robot", "client_secret_sealed": Secret("robot-secret")}
    world.server(gateway_enabled=True, **robot)
    first, second = play(find(alice), find(alice))
    assert target_of(first).grant == target_of(second).grant != ""


@requirement("G14")
def test_whether_somebody_still_holds_what_they_were_given_renews_nothing(stage: Stage) -> None:
    """It is asked for all open streams together: none may wait until a sign-in service answers about another."""
    held: list[bool] = []

    async def holds(targets: Targets, before: list[Found]) -> None:
        held.append(await targets.holds(target_of(before[0]), caller=caller(stage.alice)))

    def revoke() -> None:
        revoke_connection(stage.connection, actor=stage.alice, reason="", now=timezone.now())

    play(find(stage.alice), holds, do(lambda: stage.expires_in(0)), holds, do(revoke), holds)
    assert held == [True, True, False]
    assert stage.world.authorization_server.refresh_requests == []


def test_whoever_waits_for_a_sign_in_service_keeps_nobody_from_the_database(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    monkeypatch.setattr("gateway.targets.find.find_access", lambda asked: answered.wait(20))
    stage.tokens(access_token_sealed="")

    async def step(targets: Targets, before: list[Found]) -> None:
        server = await targets.find_server("notes")
        assert server is not None
        find = partial(targets.find_target, server, caller=caller(stage.alice))
        waiting = [asyncio.create_task(find()) for _ in range(50)]
        await asyncio.sleep(0)
        try:
            assert await asyncio.wait_for(targets.threads.run(lambda: "found"), 5) == "found"
        finally:
            answered.set()
            await asyncio.gather(*waiting, return_exceptions=True)

    play(step)
