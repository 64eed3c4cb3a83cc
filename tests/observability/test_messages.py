"""Celery's embedded broker: what cannot be read is skipped, and a task knows who asked for it."""

from __future__ import annotations

import logging
import sqlite3
import ssl
from collections import Counter
from contextlib import closing
from pathlib import Path
from queue import Empty
from types import SimpleNamespace
from typing import Any

import pytest
from celery import signals
from celery.signals import task_rejected, task_unknown
from kombu import Connection
from kombu.exceptions import ContentDisallowed
from kombu.transport import sqlalchemy

from audit.correlation import begin_correlation, correlation_id
from audit.models import AuditRecord
from mcp_oauth_site import skipped_messages
from mcp_oauth_site.broker import CORRELATION_HEADER, broker_settings
from mcp_oauth_site.celery import app, begin_task_correlation, send_correlation
from mcp_oauth_site.skipped_messages import note_skipped
from tests.fakes.read_only import read_only_database
from tests.scale.services import PrivateRedis


# A word of SQLAlchemy to kombu, not to us.
@pytest.mark.parametrize("options", ["", "?ssl_cert_reqs=required"])
def test_the_broker_takes_no_certificate_that_the_cache_refuses(tmp_path: Path, options: str) -> None:
    redis = broker_settings(f"rediss://a.example/0{options}", sqlite_file=tmp_path / "unused")
    with Connection(redis["broker_url"], ssl=redis.get("broker_use_ssl")) as broker:
        assert broker.ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
@pytest.mark.django_db
@pytest.mark.parametrize("payload", ["not json", "[]", "{}", '{"properties": null}', '"text"', "null"])
def test_a_message_of_the_embedded_broker_that_cannot_be_read_is_skipped_and_recorded(
    payload: str, tmp_path: Path
) -> None:
    file = tmp_path / "broker.sqlite3"
    settings = broker_settings("", sqlite_file=file)
    with Connection(settings["broker_url"], transport_options=settings["broker_transport_options"]) as broker:
        queue = broker.SimpleQueue("celery")
        queue.put({"number": 1}, serializer="json")
        queue.put({"number": 2}, serializer="json")
        with closing(sqlite3.connect(file)) as database:
            database.execute("UPDATE kombu_message SET payload = ? WHERE id = 1", [payload])
            database.commit()
        message = queue.get(timeout=10)
        message.ack()
        queue.close()
    assert message.payload == {"number": 2}
    assert recorded() == [("unreadable", 1)]


def recorded() -> list[tuple[str, int]]:
    found = AuditRecord.objects.filter(reason=skipped_messages.MESSAGE_SKIPPED).order_by("sequence")
    return [(one.details["kind"], one.details["count"]) for one in found]


@pytest.fixture(autouse=True)
def nothing_skipped_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skipped_messages, "_recorded_at", {})
    monkeypatch.setattr(skipped_messages, "_since", Counter())


@pytest.mark.django_db
def test_of_many_skipped_messages_one_of_a_kind_is_recorded_in_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        note_skipped("unreadable")
        note_skipped("unknown task")
    assert recorded() == [("unreadable", 1), ("unknown task", 1)]
    monkeypatch.setattr(skipped_messages, "_AGAIN_SECONDS", 0.0)
    note_skipped("unreadable")
    assert recorded()[2:] == [("unreadable", 5)]


@pytest.mark.django_db
def test_what_celery_itself_skips_is_recorded() -> None:
    task_unknown.send(sender=None, exc=KeyError("nobody.knows.this"))
    task_rejected.send(sender=None, exc=None)
    task_rejected.send(sender=None, exc=ContentDisallowed("a pickle"))
    assert recorded() == [("unknown task", 1), ("no task", 1), ("unreadable", 1)]


@pytest.mark.django_db
def test_a_message_whose_body_does_not_open_is_recorded() -> None:
    acknowledged: list[bool] = []
    message = SimpleNamespace(
        content_type="application/json", content_encoding="utf-8", headers={}, body=b"{", properties={},
        ack=lambda: acknowledged.append(True),
    )  # fmt: skip
    skipped_messages.Consumer.on_decode_error(object.__new__(skipped_messages.Consumer), message, ValueError())
    assert (recorded(), acknowledged) == ([("unreadable", 1)], [True])
    assert app.conf.worker_consumer == "mcp_oauth_site.skipped_messages:Consumer"


@pytest.mark.django_db(transaction=True)
def test_a_skipped_message_that_cannot_be_recorded_stops_nothing_and_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with read_only_database():
        note_skipped("unreadable")
    note_skipped("unreadable")
    assert recorded() == [("unreadable", 2)]


def test_a_task_that_ends_after_its_connection_was_lost_ends_no_worker(
    tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    redis = PrivateRedis(tmp_path)
    redis.start()
    request.addfinalizer(redis.stop)
    settings = broker_settings(redis.url, sqlite_file=tmp_path / "unused")
    with Connection(settings["broker_url"], transport_options=settings["broker_transport_options"]) as broker:
        queue = broker.SimpleQueue("celery")
        queue.put({"number": 1}, serializer="json")
        message = queue.get(timeout=10)
        message.channel.close()  # as a worker does before it connects anew
        message.channel._disconnect_pools()  # which is the state after a connection that broke
        # As a worker acknowledges: what is not among these errors ends it.
        message.ack_log_error(logging.getLogger("worker"), broker.connection_errors)
    assert [record.name for record in caplog.records if record.levelname == "CRITICAL"] == ["worker"]


def test_the_number_of_a_database_behind_a_socket_reaches_the_broker_too(tmp_path: Path) -> None:
    redis = broker_settings("unix:///run/redis.sock?db=2", sqlite_file=tmp_path / "unused")
    assert redis["broker_url"] == "redis+socket:///run/redis.sock?virtual_host=2"


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
def test_an_empty_queue_of_the_embedded_broker_is_looked_into_again_only_once_the_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    look = sqlalchemy.Channel._get

    def count(channel: Any, queue: str) -> Any:
        looked.append(queue)
        return look(channel, queue)

    monkeypatch.setattr(sqlalchemy.Channel, "_get", count)
    settings = broker_settings("", sqlite_file=tmp_path / "broker.sqlite3")
    with Connection(settings["broker_url"]) as worker, Connection(settings["broker_url"]) as beat:
        taken, given = worker.SimpleQueue("celery"), beat.SimpleQueue("celery")
        for _ in range(3):
            with pytest.raises(Empty):
                taken.get_nowait()
        assert looked == ["celery"]
        given.put({"number": 1}, serializer="json")
        assert taken.get_nowait().payload == {"number": 1}
        taken.close()
        given.close()


def test_a_task_goes_on_under_the_id_of_the_request_that_asked_for_it() -> None:
    headers: dict[str, Any] = {}
    begin_correlation("the-request-0001")
    send_correlation(headers=headers)
    assert headers == {CORRELATION_HEADER: "the-request-0001"}

    class Task:
        request = headers

    begin_correlation("something-else-01")
    begin_task_correlation(task_id="12345678-task", task=Task())
    assert correlation_id() == "the-request-0001"
    Task.request = {}
    begin_task_correlation(task_id="12345678-task", task=Task())
    assert correlation_id() == "12345678-task"


def test_each_task_that_beat_wakes_has_an_id_of_its_own(request: pytest.FixtureRequest) -> None:
    request.addfinalizer(lambda: signals.before_task_publish.connect(send_correlation))
    begin_correlation("the-start-of-beat")
    signals.beat_init.send(sender=None)
    headers: dict[str, Any] = {}
    signals.before_task_publish.send(sender="a.task", headers=headers)
    assert headers == {}


def test_a_header_that_is_no_plain_id_is_replaced() -> None:
    class Task:
        request = {CORRELATION_HEADER: "a line\nand another"}

    begin_task_correlation(task_id="12345678-task", task=Task())
    assert "\n" not in correlation_id()
