"""Tokens on their way upstream are renewed before they end, and once when the server refuses them. G-05, A6 G03."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from audit.models import AuditRecord
from connections.models import Connection, McpServer
from gateway.endpoint.answers import BusyError
from gateway.targets.find import NeedsPersonError, Targets
from oauthflow.egress import proofs
from oauthflow.protocol.secret import Secret
from tests.fakes.internet import Answer, Call
from tests.fakes.proofs import read_proof
from tests.fakes.world import World
from tests.requirements import requirement

from .target_stage import (
    Found,
    Stage,
    Step,
    caller,
    find,
    give_up,
    play,
    reason_of,
    renew,
    sent,
    set_stage,
    target_of,
)

pytestmark = pytest.mark.django_db(transaction=True)

REFUSED = Answer(400, {"error": "invalid_grant"})
AWAY = Answer(503, "", {"Retry-After": "40"})


@pytest.fixture
def stage(world: World, alice: User) -> Stage:
    return set_stage(world, alice)


def together(*steps: Step) -> Step:
    """Take steps at the same time; the outcomes go to a list of their own."""

    async def step(targets: Targets, before: list[Found]) -> None:
        outcomes = await asyncio.gather(*(each(targets, before) for each in steps))
        before += [outcome for outcome in outcomes if outcome is not None]

    return step


def refreshes(stage: Stage) -> int:
    return len(stage.world.authorization_server.refresh_requests)


def test_many_calls_with_a_token_that_is_due_wait_for_one_refresh(stage: Stage) -> None:
    stage.expires_in(10)
    old = stage.token()
    found = play(together(*[find(stage.alice)] * 20))
    assert refreshes(stage) == 1
    assert {sent(each)["Authorization"] for each in found} == {f"Bearer {stage.token()}"} != {f"Bearer {old}"}


def test_a_token_that_still_works_is_sent_although_it_cannot_be_renewed(stage: Stage) -> None:
    stage.expires_in(10)
    stage.world.authorization_server.refresh_answer = AWAY
    first, again = play(find(stage.alice), find(stage.alice))
    assert sent(first) == sent(again) == {"Authorization": f"Bearer {stage.token()}"}
    assert refreshes(stage) == 1


@pytest.mark.parametrize(("answer", "reason"), [(AWAY, "degraded"), (REFUSED, "reauthorize")], ids=["away", "refused"])
def test_a_token_that_is_over_and_cannot_be_renewed_is_not_sent(stage: Stage, answer: Answer, reason: str) -> None:
    stage.expires_in(-1)
    stage.world.authorization_server.refresh_answer = answer
    first, again = play(find(stage.alice), find(stage.alice))
    assert [reason_of(first), reason_of(again)] == [reason, reason]
    assert refreshes(stage) == 1
    if isinstance(again, NeedsPersonError) and reason == "degraded":
        assert 0 < again.wait_seconds <= 60


@requirement("G-05")
def test_what_the_server_refuses_is_renewed_once_for_all_who_were_refused(stage: Stage) -> None:
    before, *after = play(find(stage.alice), together(*[renew(stage.alice, of=0)] * 20), renew(stage.alice, of=0))
    assert refreshes(stage) == 1
    assert len(after) == 21
    assert {sent(each)["Authorization"] for each in after} == {f"Bearer {stage.token()}"}
    assert {target_of(each).generation for each in after} == {target_of(before).generation + 1}
    assert AuditRecord.objects.get(event="token.refreshed").details["trigger"] == "refused"


CANNOT: dict[str, tuple[dict[str, Any], Answer | None, str]] = {
    "the grant has ended": ({}, REFUSED, "reauthorize"),
    "there is no refresh token": ({"refresh_token_sealed": ""}, None, "reauthorize"),
    "its sign-in service is away": ({}, AWAY, "degraded"),
}


@requirement("G-05")
@pytest.mark.parametrize(("columns", "answer", "reason"), CANNOT.values(), ids=CANNOT.keys())
def test_what_is_refused_and_cannot_be_renewed_needs_a_person(
    stage: Stage, columns: dict[str, Any], answer: Answer | None, reason: str
) -> None:
    stage.tokens(**columns)
    stage.world.authorization_server.refresh_answer = answer
    _, after, again = play(find(stage.alice), renew(stage.alice), renew(stage.alice, of=0))
    assert [reason_of(after), reason_of(again)] == [reason, reason]
    assert refreshes(stage) == (0 if answer is None else 1)


@requirement("G-05")
def test_a_token_that_is_refused_although_it_is_fresh_ends_the_grant_and_is_not_renewed_again(stage: Stage) -> None:
    found = play(find(stage.alice), renew(stage.alice), give_up(), find(stage.alice), renew(stage.alice))
    assert [reason_of(found[2]), reason_of(found[4])] == ["reauthorize", "reauthorize"]
    assert refreshes(stage) == 1
    ended = Connection.objects.get(pk=stage.connection.pk)
    assert (ended.status, ended.reason) == ("reauth_required", "fresh_token_refused")


def test_newer_tokens_than_the_refused_ones_are_not_given_up(stage: Stage) -> None:
    play(find(stage.alice), renew(stage.alice), give_up(of=0))
    assert Connection.objects.get(pk=stage.connection.pk).status == "active"


def test_nobody_signs_in_for_a_credential_that_an_administrator_entered(bob: User) -> None:
    server = McpServer(slug="notes", name="Notes", url="https://a.example/", auth_type="bearer", gateway_enabled=True)
    server.static_credential_sealed = Secret("s3cret")
    server.save()
    _, refused, given_up = play(find(bob), renew(bob), give_up(of=0))
    assert [reason_of(refused), reason_of(given_up)] == ["credential_refused", "credential_refused"]


def test_a_server_without_a_sign_in_is_connected_by_its_first_call(world: World, bob: User) -> None:
    world.authorization_server.grant_types = ["client_credentials"]
    world.server(
        grant_type="client_credentials",
        client_id="robot",
        client_secret_sealed=Secret("robot-secret"),
        gateway_enabled=True,
    )
    first, again = play(find(bob), find(bob))
    assert sent(first) == sent(again)
    assert len(world.authorization_server.unattended_requests) == 1
    assert target_of(first).connection_id == Connection.objects.get(user=bob).pk


@pytest.fixture
def _no_nonce_is_known() -> Iterator[None]:
    proofs.forget_nonces()
    yield
    proofs.forget_nonces()


@pytest.mark.usefixtures("_no_nonce_is_known")
def test_a_bound_token_goes_with_a_fresh_proof_for_each_request(world: World, alice: User) -> None:
    world.mcp_server.scheme = "DPoP"
    world.authorization_server.binds_tokens = True
    world.authorization_server.dpop_algorithms = ["ES256"]
    stage = set_stage(world, alice)
    target = target_of(play(find(alice))[0])
    url = stage.server.url
    first, second = (read_proof(Call("POST", url, sent(target), "")) for _ in range(2))
    assert first.claims["jti"] != second.claims["jti"]
    assert first.jkt == world.authorization_server.proofs[-1].jkt

    assert not target.note_nonce(200, nonce="one", www_authenticate="")
    asked = {"nonce": "two", "www_authenticate": 'DPoP error="use_dpop_nonce"'}
    assert target.note_nonce(401, **asked)
    assert read_proof(Call("POST", url, sent(target), "")).claims["nonce"] == "two"
    assert not target.note_nonce(401, nonce="", www_authenticate=asked["www_authenticate"])


def test_a_token_that_is_not_bound_takes_no_nonce(stage: Stage) -> None:
    target = target_of(play(find(stage.alice))[0])
    assert not target.note_nonce(401, nonce="two", www_authenticate='DPoP error="use_dpop_nonce"')


def test_a_database_that_does_not_answer_is_said_to_be_away(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def calls() -> None:
        targets = Targets()
        await targets.open()
        try:
            server = await targets.find_server("notes")
            assert server is not None
            monkeypatch.setattr(targets._asker, "ask", _locked)
            with pytest.raises(BusyError) as busy:
                await targets.find_target(server, caller=caller(stage.alice))
            assert busy.value.status == 503
        finally:
            await targets.close()

    asyncio.run(calls())


async def _locked(*asked: object) -> None:
    raise sqlite3.OperationalError("database is locked")
