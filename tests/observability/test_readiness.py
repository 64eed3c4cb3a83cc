"""What stops the site, what only makes it slower, and what the container's own check says."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from redis.exceptions import ConnectionError as RedisConnectionError

from mcp_oauth_site import caches, health, healthcheck
from mcp_oauth_site.caches import JsonSerializer, ResilientRedisCache, redis_cache
from mcp_oauth_site.canary import require_key_canary
from mcp_oauth_site.observability import heartbeat
from tests.fakes.read_only import read_only_database
from tests.faults import fault
from tests.product import free_port


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(caches, "_absence", caches._Absence())
    cache.clear()
    yield
    cache.clear()


@pytest.mark.django_db
@pytest.mark.parametrize("part", ["cache", "broker", "beat"])
def test_a_part_that_only_helps_degrades(part: str, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(health._HELPFUL, part, lambda: False)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"], answer.json()["parts"][part]) == (200, "degraded", "degraded")


@pytest.mark.django_db
@pytest.mark.parametrize("part", ["database", "migrations", "keys"])
def test_a_part_that_everything_needs_fails(part: str, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> bool:
        raise RuntimeError("password hunter2")

    monkeypatch.setitem(health._NEEDED, part, broken)
    monkeypatch.setitem(health._HELPFUL, "cache", lambda: False)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"], answer.json()["parts"][part]) == (503, "failed", "failed")
    assert b"hunter2" not in answer.content


@fault("F09")
@pytest.mark.django_db(transaction=True)
def test_a_database_that_takes_no_writes_degrades(client: Client) -> None:
    require_key_canary()  # as every site does at its start
    with read_only_database():
        answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["parts"]["database"]) == (200, "degraded")
    assert client.get("/readyz").json()["parts"]["database"] == "ok"


@pytest.mark.django_db
def test_a_file_that_may_not_be_written_degrades(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL answers for its own files")
    refused = str(connection.settings_dict["NAME"])
    # Whoever runs as root may write everywhere: the answer of the system is replaced, the rest is real.
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != refused)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["parts"]["database"]) == (200, "degraded")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("started_ago", "beat_ago", "state"),
    [(10, None, "ok"), (1000, None, "degraded"), (1000, 50, "ok"), (1000, 70, "degraded"), (10, 86_400, "ok")],
)
def test_a_beat_that_stopped_is_noticed_after_three_ticks(
    started_ago: float, beat_ago: float | None, state: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "_started_at", time.monotonic() - started_ago)
    if beat_ago is not None:
        cache.set(heartbeat._KEY, time.time() - beat_ago)
    assert client.get("/readyz").json()["parts"]["beat"] == state


def test_without_redis_a_process_remembers_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = redis_cache(f"redis://127.0.0.1:{free_port()}/0")
    away = ResilientRedisCache(entry["LOCATION"], {"OPTIONS": entry["OPTIONS"]})
    assert away.add("attempts", 1) is True
    assert away.is_away
    assert away.incr("attempts") == 2
    away.set_many({"a": 1, "b": 2})
    assert away.get_many(["a", "b"]) == {"a": 1, "b": 2}
    assert away.get("unknown", "default") == "default"
    away.clear()
    assert not away.has_key("attempts")


def test_redis_is_asked_again_after_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(*args: object, **kwargs: object) -> None:
        asked.append(args)
        raise RedisConnectionError

    away = ResilientRedisCache("redis://127.0.0.1:1/0", {})
    monkeypatch.setattr(away.__class__.__mro__[1], "get", refuse)
    away.get("a")
    away.get("a")
    assert len(asked) == 1
    caches._absence.until = 0.0
    away.get("a")
    assert len(asked) == 2


def test_what_redis_holds_is_read_as_data_and_never_as_a_program() -> None:
    serializer = JsonSerializer()
    assert serializer.loads(b"\x80\x04\x95\x07\x00\x00\x00") is None
    assert serializer.loads(b"not json") is None
    for value in (5, 5.5, "text", ["list"], {"a": None}, True):
        stored = serializer.dumps(value)
        assert serializer.loads(str(stored).encode() if isinstance(stored, int) else stored) == value


@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False), (400, False)])
def test_the_container_asks_by_the_name_that_the_site_answers_to(
    status: int, well: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append((self.path, self.headers["Host"]))
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("METRICS_PORT", str(server.server_port))
        monkeypatch.setenv("PUBLIC_URL", "https://mcp.example.com")
        assert healthcheck.is_well() is well
        server.shutdown()
    assert heard == [("/healthz", "mcp.example.com")]


def test_a_container_in_which_nothing_listens_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_PORT", str(free_port()))
    assert healthcheck.is_well() is False
