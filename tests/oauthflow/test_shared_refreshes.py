"""Callers who want the same token wait for one refresh; after it each is judged anew. P17."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from audit.models import AuditRecord
from connections.api_tokens import issue_api_token
from connections.models import ApiToken, Connection, FlowTrace, TokenSet
from oauthflow.flows import attempt
from oauthflow.hot_path import shared_refreshes
from oauthflow.hot_path.shared_refreshes import SharedRefreshes
from tests.fakes.internet import Answer as Said
from tests.fakes.world import World
from tests.oauthflow.asgi_calls import Answer, Release, ask
from tests.oauthflow.release_stage import Stage, set_stage

pytestmark = pytest.mark.django_db(transaction=True)
Call = asyncio.Task[Answer]


@pytest.fixture
def stage(world: World, alice: User) -> Stage:
    return set_stage(world, alice)


class Crowd:
    """Callers of one due token; the server answers when all of them wait, and `meanwhile` has been done."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.release = Release()
        self._world, self._waiting, self._all_wait = world, 0, threading.Event()
        real = SharedRefreshes.wait_for

        async def counted(refreshes: SharedRefreshes, connection_id: str, *, generation: int) -> None:
            self._waiting += 1
            await real(refreshes, connection_id, generation=generation)

        monkeypatch.setattr(SharedRefreshes, "wait_for", counted)

    def come(
        self,
        *stages: Stage,
        meanwhile: Callable[[], object] = lambda: None,
        all_wait: Callable[[list[Call]], object] = lambda calls: None,
    ) -> list[Answer | BaseException]:
        def hold() -> None:
            assert self._all_wait.wait(timeout=60)
            meanwhile()

        self._world.authorization_server.before_token_answer = hold
        return asyncio.run(self._come(stages, all_wait))

    async def _come(
        self, stages: tuple[Stage, ...], all_wait: Callable[[list[Call]], object]
    ) -> list[Answer | BaseException]:
        await self.release.application.open()
        calls = [asyncio.create_task(ask(self.release.application, one.ask())) for one in stages]
        while self._waiting < len(stages):
            await asyncio.sleep(0)
        all_wait(calls)
        await asyncio.sleep(0)
        self._all_wait.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        await self.release.application.close()
        return answers


@pytest.fixture
def crowd(world: World, monkeypatch: pytest.MonkeyPatch) -> Crowd:
    return Crowd(world, monkeypatch)


def _statuses(answers: list[Answer | BaseException]) -> list[int]:
    return [answer.status for answer in answers if isinstance(answer, Answer)]


def _token_in(answer: Answer | BaseException) -> str:
    assert isinstance(answer, Answer)
    return str(json.loads(answer.body)["access_token"])


def _stored_token() -> str:
    return TokenSet.objects.get().access_token_sealed.reveal().reveal()


@pytest.mark.parametrize("seconds", [200, -1])
def test_sixty_four_callers_of_a_token_near_or_over_its_end_cause_one_refresh(
    stage: Stage, crowd: Crowd, world: World, seconds: int
) -> None:
    stage.expires_in(seconds)
    answers = crowd.come(*[stage] * 64)
    assert len(world.authorization_server.refresh_requests) == 1
    assert {_token_in(answer) for answer in answers} == {_stored_token()}
    assert TokenSet.objects.get().generation == 2
    assert crowd.release.fell_through == []
    released = AuditRecord.objects.filter(event="token.released").values_list("correlation_id", flat=True)
    assert set(released) == {answer.headers["x-request-id"] for answer in answers if isinstance(answer, Answer)}
    assert len(released) == 64
    assert AuditRecord.objects.get(event="token.refreshed").correlation_id in set(released)


def _other() -> QuerySet[ApiToken]:
    return ApiToken.objects.filter(name="other")


LOSSES: dict[str, tuple[Callable[[Stage], object], list[int]]] = {
    "its token was revoked": (lambda one: _other().update(revoked_at=timezone.now()), [200, 401]),
    "its scope was taken": (lambda one: _other().update(scopes=["tools:call"]), [200, 403]),
    "server for others": (lambda one: one.connection.server.users.add(User.objects.create(username="c")), [403] * 2),
    "it is another's": (lambda one: one.own(user=User.objects.create(username="dora")), [404] * 2),
    "the person is deactivated": (lambda one: User.objects.update(is_active=False), [401] * 2),
}  # fmt: skip


@pytest.mark.parametrize(("loss", "statuses"), LOSSES.values(), ids=LOSSES.keys())
def test_who_lost_the_right_while_waiting_gets_no_token(
    stage: Stage, crowd: Crowd, loss: Callable[[Stage], object], statuses: list[int]
) -> None:
    issued = issue_api_token(stage.alice, scopes=["tokens:release"], name="other", now=timezone.now())
    other = Stage(stage.alice, stage.connection, issued.token.reveal())
    stage.expires_in(-1)
    answers = crowd.come(stage, other, meanwhile=lambda: loss(stage))
    assert _statuses(answers) == statuses
    told = [answer.body for answer in answers if isinstance(answer, Answer) and answer.status != 200]
    assert not any(b"access_token" in body or _stored_token().encode() in body for body in told)
    assert AuditRecord.objects.filter(event="token.released").count() == statuses.count(200)


def test_who_has_no_right_waits_for_nobody_and_causes_no_refresh(stage: Stage, world: World) -> None:
    stage.expires_in(-1)
    release = Release()
    (answer,) = release.play(stage.ask(headers={"Authorization": "Bearer mcp_unknown"}))
    assert (answer.status, world.authorization_server.refresh_requests) == (401, [])


FAILURES: dict[str, tuple[int, Said, int, str]] = {
    "refused": (-1, Said(400, {"error": "invalid_grant"}), 409, "authorization_required"),
    "unavailable": (-1, Said(503), 503, "temporarily_unavailable"),
}


@pytest.mark.parametrize(("seconds", "said", "status", "code"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_reaches_all_who_waited_as_the_view_tells_it(
    stage: Stage, crowd: Crowd, world: World, seconds: int, said: Said, status: int, code: str
) -> None:
    stage.expires_in(seconds)
    world.authorization_server.refresh_answer = said
    answers = crowd.come(*[stage] * 8)
    assert len(world.authorization_server.refresh_requests) == 1
    assert _statuses(answers) == [status] * 8
    assert {json.loads(answer.body)["error"] for answer in answers if isinstance(answer, Answer)} == {code}
    assert len(crowd.release.fell_through) == 8
    ids = {answer.headers["x-request-id"] for answer in answers if isinstance(answer, Answer)}
    assert FlowTrace.objects.get(kind="refresh").correlation_id in ids


def test_a_token_that_still_works_is_given_to_all_although_the_refresh_fails(
    stage: Stage, crowd: Crowd, world: World
) -> None:
    stage.expires_in(200)
    world.authorization_server.refresh_answer = Said(503)
    answers = crowd.come(*[stage] * 8)
    assert {_token_in(answer) for answer in answers} == {_stored_token()}
    assert len(world.authorization_server.refresh_requests) == 1


def test_callers_who_go_away_end_neither_the_refresh_nor_the_waiting_of_others(
    stage: Stage, crowd: Crowd, world: World
) -> None:
    def two_go(calls: list[Call]) -> None:
        calls[0].cancel()
        calls[1].cancel()

    stage.expires_in(-1)
    answers = crowd.come(*[stage] * 4, all_wait=two_go)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 2 + [Answer] * 2
    assert {_token_in(answer) for answer in answers[2:]} == {_stored_token()}
    assert len(world.authorization_server.refresh_requests) == 1


def test_a_refresh_that_nobody_waits_for_any_more_is_finished_before_the_end(
    stage: Stage, crowd: Crowd, world: World
) -> None:
    stage.expires_in(-1)
    crowd.come(stage, all_wait=lambda calls: calls[0].cancel())
    assert (TokenSet.objects.get().generation, Connection.objects.get().status) == (2, "active")


def test_nobody_waits_for_what_is_noted_once_the_tokens_are_stored(
    stage: Stage, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody_has_it, before_the_trace, keep = threading.Event(), [], attempt._keep

    def keep_late(*trace: Any, **said: Any) -> None:
        before_the_trace.append(everybody_has_it.wait(timeout=10))
        keep(*trace, **said)

    def tell_when_answered(calls: list[Call]) -> None:
        asyncio.gather(*calls).add_done_callback(lambda _: everybody_has_it.set())

    stage.expires_in(-1)
    monkeypatch.setattr(attempt, "_keep", keep_late)
    answers = crowd.come(stage, stage, all_wait=tell_when_answered)

    assert _statuses(answers) == [200, 200]
    assert before_the_trace == [True]
    assert FlowTrace.objects.filter(kind="refresh", ok=True).count() == 1


def test_who_waited_is_answered_before_the_rest_is_noted_and_nobody_is_kept_from_the_database_meanwhile(
    stage: Stage, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody_has_it, seen = threading.Event(), []

    def make_way(seconds: float) -> None:
        seen.append((everybody_has_it.wait(timeout=10), connection.vendor != "postgresql" or not connection.connection))

    def tell_when_answered(calls: list[Call]) -> None:
        asyncio.gather(*calls).add_done_callback(lambda _: everybody_has_it.set())

    stage.expires_in(-1)
    monkeypatch.setattr(shared_refreshes, "time", SimpleNamespace(sleep=make_way))
    answers = crowd.come(stage, stage, all_wait=tell_when_answered)

    assert _statuses(answers) == [200, 200]
    assert seen == [(True, True)]
    assert FlowTrace.objects.filter(kind="refresh", ok=True).count() == 1


def test_no_more_are_under_way_than_may_be_and_what_is_over_is_forgotten(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, begun = threading.Event(), []

    def refresh(connection: Connection, **said: Any) -> None:
        begun.append(connection.pk)
        assert go_on.wait(timeout=60)
        raise RuntimeError("whatever fails is the view's")

    monkeypatch.setattr(shared_refreshes, "refresh_connection", refresh)
    pk = str(stage.connection.pk)

    async def use() -> None:
        refreshes = SharedRefreshes(most=1)
        first = asyncio.create_task(refreshes.wait_for(pk, generation=1))
        await asyncio.sleep(0)
        await refreshes.wait_for("another", generation=1)
        assert not first.done()
        go_on.set()
        await first
        await refreshes.wait_for(pk, generation=1)
        await refreshes.close()

    asyncio.run(use())
    assert begun == [stage.connection.pk] * 2
