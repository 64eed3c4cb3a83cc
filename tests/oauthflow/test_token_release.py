"""The release of a token beside Django answers what the view answers, notices every change, and records first."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import DatabaseError
from django.utils import timezone
from pytest_django import Settings

from audit.chain import broken_links
from audit.models import AuditHead, AuditRecord
from connections.models import ApiToken, Connection, McpServer, TokenSet
from mcp_oauth_site.root import build_application
from oauthflow.protocol.secret import Secret
from oauthflow.token_release import recorder
from tests.fakes.world import World
from tests.oauthflow.asgi_calls import Answer, Release, ask, in_database
from tests.oauthflow.release_stage import Stage, set_stage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stage(world: World, alice: User) -> Stage:
    return set_stage(world, alice)


def _same(fast: Answer, view: Answer) -> None:
    """Equal but for the id of the request."""
    fast_id, view_id = fast.headers.pop("x-request-id"), view.headers.pop("x-request-id")
    assert fast.headers == view.headers
    assert fast.status == view.status
    assert fast.body.replace(fast_id.encode(), b"") == view.body.replace(view_id.encode(), b"")


PLAIN: dict[str, dict[str, Any]] = {
    "no body": {},
    "empty object": {"body": b"{}", "headers": {"Content-Type": "application/json"}},
    "anything accepted": {"headers": {"Accept": "*/*"}},
    "JSON accepted": {"headers": {"Accept": "application/json"}},
    "a library's usual list": {"headers": {"Accept": "application/json, text/plain, */*"}},
    "another spelling of the host": {"headers": {"Host": "LOCALHOST:8000"}},
    "headers of no concern": {"headers": {"User-Agent": "x", "X-Forwarded-Host": "evil.example"}},
}  # fmt: skip


@pytest.mark.parametrize("case", PLAIN.values(), ids=PLAIN.keys())
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_plain_call_is_answered_like_the_view_does(stage: Stage, case: dict[str, Any], scheme: str) -> None:
    wanted = stage.ask(scheme=scheme, **case)
    release = Release()
    (fast,) = release.play(wanted)
    assert (fast.status, release.fell_through) == (200, [])
    view = asyncio.run(ask(release.django, wanted))
    _same(fast, view)


@pytest.mark.parametrize("expires_in", [None, timedelta(hours=1), timedelta(days=400)])
def test_the_answer_is_the_same_whatever_the_row_says(stage: Stage, expires_in: timedelta | None) -> None:
    expires_at = None if expires_in is None else (timezone.now() + expires_in).replace(microsecond=0)
    stage.tokens(expires_at=expires_at, scope='a "b"', token_type="bearer", resource="https://ä.example/mcp")
    release = Release()
    (fast,) = release.play(stage.ask())
    assert release.fell_through == []
    _same(fast, asyncio.run(ask(release.django, stage.ask())))


def test_over_https_the_answer_is_the_same(stage: Stage, settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT, settings.SECURE_HSTS_SECONDS = True, 3600
    release = Release()
    fast, refused = release.play(stage.ask(scheme="https"), stage.ask(scheme="http"))
    assert (fast.status, refused.status, len(release.fell_through)) == (200, 301, 1)
    assert "strict-transport-security" in fast.headers
    _same(fast, asyncio.run(ask(release.django, stage.ask(scheme="https"))))


UNUSUAL: dict[str, tuple[dict[str, Any], int]] = {
    "a body with content": ({"body": b'{"x": 1}', "headers": {"Content-Type": "application/json"}}, 400),
    "a list": ({"body": b"[]", "headers": {"Content-Type": "application/json"}}, 400),
    "a form": ({"body": b"a=b", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 415),
    "another answer wanted": ({"headers": {"Accept": "text/html"}}, 406),
    "a token in the address": ({"query": b"access_token=mcp_x"}, 400),
    "a harmless parameter": ({"query": b"a=b"}, 200),
    "another method": ({"method": "PUT"}, 405),
    "a foreign host": ({"headers": {"Host": "evil.example"}}, 400),
    "an origin": ({"headers": {"Origin": "https://app.example"}}, 200),
    "a cookie": ({"headers": {"Cookie": "a=b"}}, 200),
    "no credential": ({"headers": {"Authorization": None}}, 401),
    "an unknown token": ({"headers": {"Authorization": "Bearer mcp_unknown"}}, 401),
    "a token of another kind": ({"headers": {"Authorization": "Bearer eyJ.x.y"}}, 401),
    "lower case": ({"headers": {"Authorization": "bearer mcp_unknown"}}, 401),
    "no id": ({"path": "/api/v1/connections/nothing/token"}, 404),
    "an unknown id": ({"path": "/api/v1/connections/00000000-0000-4000-8000-000000000000/token"}, 404),
}


@pytest.mark.parametrize(("case", "status"), UNUSUAL.values(), ids=UNUSUAL.keys())
def test_whatever_is_unusual_is_answered_by_the_view_itself(stage: Stage, case: dict[str, Any], status: int) -> None:
    release = Release()
    wanted = stage.ask(**case)
    (answer,) = release.play(wanted)
    assert (answer.status, release.fell_through) == (status, [wanted.path])
    _same(answer, asyncio.run(ask(release.django, wanted)))


def _tomorrow() -> datetime:
    return timezone.now() + timedelta(days=1)


CHANGES: dict[str, tuple[Callable[[Stage], object], int]] = {
    "token revoked": (lambda stage: ApiToken.objects.update(revoked_at=timezone.now()), 401),
    "token expired": (lambda stage: ApiToken.objects.update(expires_at=timezone.now()), 401),
    "person deactivated": (lambda stage: User.objects.update(is_active=False), 401),
    "scope taken away": (lambda stage: ApiToken.objects.update(scopes=["tools:call"]), 403),
    "scopes unreadable": (lambda stage: ApiToken.objects.update(scopes="tokens:release"), 403),
    "server out of use": (lambda stage: McpServer.objects.update(status="inactive"), 403),
    "server without OAuth": (lambda stage: McpServer.objects.update(auth_type="none"), 400),
    "server for others": (lambda stage: stage.connection.server.users.add(User.objects.create(username="carol")), 403),
    "server for a group": (lambda stage: stage.connection.server.groups.add(Group.objects.create(name="g")), 403),
    "disconnected": (lambda stage: stage.own(status="revoked"), 200),
    "tokens deleted": (lambda stage: TokenSet.objects.all().delete(), 409),
    "waits for a person": (lambda stage: stage.own(status="issuer_changed"), 422),
    "given to another": (lambda stage: stage.own(user=User.objects.create(username="dora")), 404),
    "deleted": (lambda stage: stage.connection.delete(), 404),
    "near its end and not renewable": (lambda stage: stage.expires_in(200, refresh_token_sealed=""), 200),
    "near its end in a pause": (lambda stage: stage.expires_in(200, next_attempt_at=_tomorrow()), 200),
    "sealed for another generation": (lambda stage: stage.tokens(generation=7), 409),
    "sealed value damaged": (lambda stage: stage.tokens(access_token_sealed=""), 200),
}


@pytest.mark.parametrize(("change", "status"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_noticed_by_the_very_next_call(
    stage: Stage, change: Callable[[Stage], object], status: int
) -> None:
    release = Release()
    before, after = release.play(stage.ask(), lambda: change(stage), stage.ask())
    assert before.status == 200
    assert len(release.fell_through) == 1, "the view has to look at the second call"
    assert after.status == status


def test_a_person_named_for_a_server_or_in_a_named_group_gets_it_the_fast_way(stage: Stage) -> None:
    server, group = stage.connection.server, Group.objects.create(name="g")
    server.groups.add(group)
    stage.alice.groups.add(group)
    release = Release()
    release.play(stage.ask(), lambda: server.groups.clear(), lambda: server.users.add(stage.alice), stage.ask())
    assert release.fell_through == []


def test_a_token_refreshed_meanwhile_is_given_out_at_once(stage: Stage, world: World) -> None:
    def rewrite() -> None:
        tokens = TokenSet.objects.get(connection=stage.connection)
        tokens.generation += 1
        tokens.access_token_sealed = Secret("the-newer-one")
        tokens.save()

    release = Release()
    before, after = release.play(stage.ask(), rewrite, stage.ask())
    assert json.loads(before.body)["access_token"] != "the-newer-one" == json.loads(after.body)["access_token"]
    assert release.fell_through == []


def test_a_shared_connection_is_left_to_the_view(stage: Stage) -> None:
    McpServer.objects.update(connection_policy="shared")
    stage.own(user=None)
    release = Release()
    (answer,) = release.play(stage.ask())
    assert (answer.status, len(release.fell_through)) == (200, 1)


def _releases() -> list[AuditRecord]:
    return list(AuditRecord.objects.filter(event="token.released").order_by("sequence"))


def test_both_ways_leave_the_same_record(stage: Stage) -> None:
    release = Release()
    named = {"X-Request-ID": "request-0001"}
    release.play(stage.ask(headers=named), stage.ask(headers={**named, "Cookie": "a=b"}))
    fast, view = _releases()
    for name in ("event", "actor", "server", "connection", "client", "reason", "correlation_id", "details", "key_id"):
        assert getattr(fast, name) == getattr(view, name), name
    assert fast.correlation_id == "request-0001"
    assert fast.client == "laptop"


def test_many_at_once_are_all_recorded_in_one_unbroken_chain(stage: Stage) -> None:
    release = Release()

    async def crowd() -> list[Answer]:
        await release.application.open()
        answers = await asyncio.gather(*(ask(release.application, stage.ask()) for _ in range(60)))
        await release.application.close()
        return answers

    answers = asyncio.run(crowd())
    recorded = {kept.correlation_id for kept in _releases()}
    assert {answer.headers["x-request-id"] for answer in answers} == recorded
    assert len(recorded) == 60
    head = AuditHead.objects.get()
    records = AuditRecord.objects.order_by("sequence").iterator()
    assert list(broken_links(records, head_sequence=head.sequence, head_mac=head.mac)) == []


def test_nobody_gets_a_token_before_its_record_is_committed(stage: Stage) -> None:
    release, seen = Release(), []

    async def look() -> None:
        seen.append(await in_database(lambda: len(_releases())))

    async def one() -> None:
        await release.application.open()
        await ask(release.application, stage.ask(), on_start=look)
        await release.application.close()

    asyncio.run(one())
    assert seen == [1]


def test_what_waits_at_the_end_is_still_recorded_and_answered(stage: Stage) -> None:
    release = Release()

    async def ending() -> Answer:
        await release.application.open()
        await ask(release.application, stage.ask())
        last = asyncio.create_task(ask(release.application, stage.ask()))
        while not len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await release.application.close()
        return await last

    assert asyncio.run(ending()).status == 200
    assert len(_releases()) == 2


def test_more_than_may_wait_are_told_to_come_back_and_get_nothing(stage: Stage) -> None:
    release = Release(capacity=0)
    (answer,) = release.play(stage.ask())
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    said = json.loads(answer.body)
    assert set(said) == {"error", "message", "retryable", "requires_reauthorization", "correlation_id"}
    assert (said["error"], said["retryable"]) == ("temporarily_unavailable", True)
    assert _releases() == []


def test_a_release_that_cannot_be_recorded_does_not_happen(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(entries: Any) -> None:
        raise DatabaseError("disk full")

    monkeypatch.setattr(recorder, "append_many", fail)
    (answer,) = Release().play(stage.ask())
    assert (answer.status, answer.headers["retry-after"]) == (503, "30")
    assert b"access_token" not in answer.body


def test_a_database_that_hung_up_is_asked_once_more(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    real, attempts = recorder.append_many, []

    def fail_first(entries: Any) -> Any:
        attempts.append(len(entries))
        if len(attempts) == 1:
            raise DatabaseError("the server closed the connection")
        return real(entries)

    monkeypatch.setattr(recorder, "append_many", fail_first)
    (answer,) = Release().play(stage.ask())
    assert (answer.status, attempts, len(_releases())) == (200, [1, 1], 1)


def test_the_last_use_is_noted_at_most_once_a_minute(stage: Stage) -> None:
    release, long_ago = Release(), timezone.now() - timedelta(hours=1)
    ApiToken.objects.update(last_used_at=None)
    stage.own(last_used_at=long_ago)
    release.play(stage.ask())
    noted = ApiToken.objects.get().last_used_at, Connection.objects.get().last_used_at
    assert all(moment is not None and moment > timezone.now() - timedelta(minutes=1) for moment in noted)
    release.play(stage.ask(), stage.ask())
    assert (ApiToken.objects.get().last_used_at, Connection.objects.get().last_used_at) == noted


def test_before_it_is_opened_and_after_it_is_closed_everything_goes_to_the_view(stage: Stage) -> None:
    release = Release()
    assert asyncio.run(ask(release.application, stage.ask())).status == 200
    release.play()
    assert asyncio.run(ask(release.application, stage.ask())).status == 200
    assert len(release.fell_through) == 2


def test_the_site_itself_answers_this_way_from_its_start_to_its_end(stage: Stage, settings: Settings) -> None:
    Path(settings.STATIC_ROOT).mkdir(exist_ok=True)
    messages = iter(["lifespan.startup", "lifespan.shutdown"])
    told: list[str] = []
    root, started, ending = build_application(), asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, str]:
        following = next(messages)
        if following == "lifespan.shutdown":
            started.set()
            await ending.wait()
        return {"type": following}

    async def send(message: dict[str, str]) -> None:
        told.append(message["type"])

    async def live() -> Answer:
        life = asyncio.create_task(root({"type": "lifespan"}, receive, send))
        await started.wait()
        answer = await ask(root, stage.ask())
        ending.set()
        await life
        return answer

    answer = asyncio.run(live())
    assert (answer.status, len(_releases())) == (200, 1)
    # Django gives random ids, the fast path ids that begin with the time.
    assert abs(int(answer.headers["x-request-id"][:16], 16) / 1e9 - timezone.now().timestamp()) < 60
    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
