"""Several processes on PostgreSQL and Redis are one site, and stay one while Redis is away."""

from __future__ import annotations

import json
import signal

import pytest

from mcp_oauth_site.broker import HEARTBEAT_TASK
from tests.faults import fault

from .site import Site, ask, eventually

pytestmark = pytest.mark.scale
BEAT_KEY = ":1:observability:last-beat"
REFRESH_TASK = "oauthflow.tasks.refresh_due_tokens"
_PICKLE = json.dumps(
    {
        "body": "gASVBwAAAAAAAABdlC4=",
        "content-type": "application/x-python-serialize",
        "content-encoding": "binary",
        "headers": {"task": HEARTBEAT_TASK, "id": "1"},
        "properties": {
            "delivery_tag": "1",
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "celery"},
        },
    }
).encode()


def _release(web: str, connection: str, token: str) -> int:
    return ask(f"{web}/api/v1/connections/{connection}/token", method="POST", token=token, body={}).status


def _workers_take_messages(site: Site, *, seconds: float) -> None:
    """Send a message and wait until a worker has done what it says."""
    before = site.redis.client().get(BEAT_KEY)
    site.send_tasks(HEARTBEAT_TASK)
    eventually(lambda: site.redis.client().get(BEAT_KEY) != before, seconds=seconds)


def test_what_is_revoked_on_one_web_process_is_refused_on_the_other_within_a_second(site: Site) -> None:
    token, (connection,) = site.seed("revoked")
    first, second = site.webs
    assert [_release(web, connection, token) for web in (first, second)] == [200, 200]
    assert ask(f"{first}/api/v1/connections/{connection}/revoke", method="POST", token=token, body={}).status == 200
    eventually(lambda: _release(second, connection, token) == 409, seconds=1)
    assert _release(first, connection, token) == 409


def test_a_person_who_was_deactivated_is_refused_by_every_process_at_once(site: Site) -> None:
    token, (connection,) = site.seed("deactivated")
    assert [_release(web, connection, token) for web in site.webs] == [200, 200]
    site.run(
        "from django.contrib.auth.models import User\n"
        "User.objects.filter(username='deactivated').update(is_active=False)"
    )
    assert [_release(web, connection, token) for web in site.webs] == [401, 401]
    assert [ask(f"{web}/api/v1/connections/{connection}/status", token=token).status for web in site.webs] == [401, 401]


def test_a_task_goes_on_under_the_id_of_who_asked_for_it(site: Site) -> None:
    site.run(
        "from audit.correlation import begin_correlation\nfrom mcp_oauth_site.celery import app\n"
        f"begin_correlation('asked-by-the-test-1')\napp.send_task({HEARTBEAT_TASK!r})"
    )
    workers = [site.logs[name] for name in ("worker-1", "worker-2")]
    eventually(lambda: any('"correlation_id": "asked-by-the-test-1"' in log.read_text() for log in workers), seconds=10)


def _broker_and_cache(web: str) -> set[str]:
    parts = ask(f"{web}/readyz").body["parts"]
    return {parts["broker"], parts["cache"]}


def _processes_that_ended(site: Site) -> int:
    """Other tests stop some on purpose."""
    return sum(log.read_text().count("process ended") for log in site.logs.values())


def _ask_while_redis_is_away(site: Site, token: str, connection: str) -> list[int]:
    statuses = []
    for _ in range(20):
        for web in site.webs:
            statuses.append(_release(web, connection, token))
            statuses.append(ask(f"{web}/api/v1/connections/{connection}/status", token=token).status)
    return statuses


@fault("F05")
def test_a_paused_redis_degrades_and_hinders_nobody_and_what_is_due_is_renewed(site: Site) -> None:
    token, (connection,) = site.seed("paused")
    with site.role("worker", "soon-by-itself", DJANGO_SETTINGS_MODULE="tests.scale.impatient"):
        eventually(lambda: "ready" in site.logs["soon-by-itself"].read_text(), seconds=30)
        site.redis.pause()
        try:
            site.seed("due-without-redis", due=True)
            eventually(lambda: site.upstream.seen["refresh-due-without-redis-0"] == 1, seconds=10)
            assert set(_ask_while_redis_is_away(site, token, connection)) == {200}
            for web in site.webs:
                ready = ask(f"{web}/readyz")
                assert (ready.status, ready.body["status"]) == (200, "degraded")
                needed = ("database", "migrations", "keys")
                assert ready.body["parts"] | {"beat": ""} == {
                    **dict.fromkeys(needed, "ok"), "cache": "degraded", "broker": "degraded", "beat": "",
                }  # fmt: skip
        finally:
            site.redis.go_on()
    for web in site.webs:
        eventually(lambda web=web: _broker_and_cache(web) == {"ok"}, seconds=10)
    _workers_take_messages(site, seconds=10)


@fault("F05")
def test_a_redis_that_was_killed_and_comes_back_empty_is_used_again_without_a_restart(site: Site) -> None:
    token, (connection,) = site.seed("killed")
    ended = _processes_that_ended(site)
    # Messages that a worker holds at this moment are what it cannot give back.
    site.send_tasks(HEARTBEAT_TASK, times=200)
    site.redis.kill()
    try:
        assert set(_ask_while_redis_is_away(site, token, connection)) == {200}
        assert [ask(f"{web}/readyz").body["status"] for web in site.webs] == ["degraded", "degraded"]
    finally:
        site.redis.start()
    for web in site.webs:
        eventually(lambda web=web: _broker_and_cache(web) == {"ok"}, seconds=10)
    eventually(lambda: bool(site.redis.client().smembers("_kombu.binding.celery")), seconds=20)
    _workers_take_messages(site, seconds=20)
    assert _processes_that_ended(site) == ended


@fault("F05")
def test_emptying_redis_loses_nothing_but_messages(site: Site) -> None:
    token, (connection,) = site.seed("flushed")
    site.redis.client().flushall()
    assert set(_ask_while_redis_is_away(site, token, connection)) == {200}
    _workers_take_messages(site, seconds=20)


@fault("F05")
def test_a_redis_that_is_full_hinders_nobody_and_is_used_again_when_it_has_room(site: Site) -> None:
    token, (connection,) = site.seed("full")
    site.redis.client().config_set("maxmemory", 1)
    try:
        assert set(_ask_while_redis_is_away(site, token, connection)) == {200}
    finally:
        site.redis.client().config_set("maxmemory", 0)
    _workers_take_messages(site, seconds=20)


def _recorded_as_skipped(site: Site, kind: str) -> int:
    return int(
        site.run(
            "from audit.models import AuditRecord\n"
            f"print(AuditRecord.objects.filter(reason='message_skipped', details__kind='{kind}').count())"
        )
    )


def test_a_message_that_names_no_task_of_ours_is_skipped_and_recorded_once_by_each_worker(site: Site) -> None:
    site.send_tasks("nobody.knows.this", times=8)
    _workers_take_messages(site, seconds=15)
    eventually(lambda: _recorded_as_skipped(site, "unknown task") > 0, seconds=5)
    assert _recorded_as_skipped(site, "unknown task") <= 2


@pytest.mark.parametrize(
    "message",
    [
        b"this is not JSON",
        b'{"body": "truncat',
        b"[]",
        _PICKLE,
    ],
    ids=["words", "cut off", "a list", "a pickle"],
)
def test_a_message_that_is_no_json_is_skipped(site: Site, message: bytes) -> None:
    ended = _processes_that_ended(site)
    for _ in range(4):
        site.redis.client().lpush("celery", message)
    eventually(lambda: site.redis.client().llen("celery") == 0, seconds=15)
    _workers_take_messages(site, seconds=15)
    eventually(lambda: _recorded_as_skipped(site, "unreadable") > 0, seconds=5)
    assert _recorded_as_skipped(site, "unreadable") <= 2  # each of the two workers once, however many there were
    assert _processes_that_ended(site) == ended


@fault("F06")
def test_two_beats_and_every_message_many_times_refresh_once(site: Site) -> None:
    token, connections = site.seed("twice", connections=10, due=True)
    with site.role("beat", "second-beat"):
        site.send_tasks(REFRESH_TASK, times=20)
        eventually(lambda: len(_refreshed(site, "twice")) == 10, seconds=30)
    assert set(_refreshed(site, "twice").values()) == {1}
    assert {_release(site.webs[0], connection, token) for connection in connections} == {200}


def _refreshed(site: Site, name: str) -> dict[str, int]:
    return {token: count for token, count in site.upstream.seen.items() if token.startswith(f"refresh-{name}-")}


@fault("F06")
def test_without_any_beat_tokens_are_still_renewed_when_they_are_asked_for(site: Site) -> None:
    site.processes["beat"].send_signal(signal.SIGINT)
    site.processes["beat"].wait()
    token, (connection,) = site.seed("beatless", due=True)
    site.run(
        "from connections.models import TokenSet\nfrom django.utils import timezone\n"
        "TokenSet.objects.filter(connection__label='c0', connection__user__username='beatless')"
        ".update(expires_at=timezone.now())"
    )
    released = ask(f"{site.webs[1]}/api/v1/connections/{connection}/token", method="POST", token=token, body={})
    assert (released.status, released.body["access_token"]) == (200, "access-after-refresh-beatless-0")
    assert _refreshed(site, "beatless") == {"refresh-beatless-0": 1}
