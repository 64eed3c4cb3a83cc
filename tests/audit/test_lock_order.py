"""Whoever holds the end of the chain waits for nobody: several changes at once, and none ends in a deadlock."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from time import sleep

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections, transaction
from django.utils import timezone

from audit.append import append_many, appended_last
from audit.events import AuditEvent
from audit.models import AuditHead, AuditRecord
from audit.record import entry, record
from gateway.models import ToolDefinition
from oauthflow.flows.register_client import lock_registrations
from tests.fakes.world import World

pytestmark = pytest.mark.django_db(transaction=True)


def _until_one_waits() -> None:
    with connection.cursor() as cursor:
        for _ in range(2000):
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            if cursor.fetchone() == (1,):
                return
            sleep(0.005)
    raise AssertionError("nobody waits")


def _beside(*works: Callable[[], None]) -> list[str]:
    """Do all at once, each on a connection of its own; return what went wrong."""
    wrong: list[str] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            wrong.append(repr(error))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return wrong


def test_a_row_that_names_a_server_is_checked_before_the_end_is_locked(world: World) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer")
    server = world.server()
    record(AuditEvent.SERVER_CHANGED, server=server.slug)
    holds, has_appended = threading.Event(), threading.Event()

    def hold_the_server() -> None:
        with transaction.atomic():
            lock_registrations(server)
            holds.set()
            has_appended.wait(20)
            record(AuditEvent.CLIENT_REGISTERED, server=server.slug)

    def add_a_row_of_it() -> None:
        holds.wait(20)
        with transaction.atomic():
            now = timezone.now()
            ToolDefinition.objects.create(server=server, name="add", digest="d", definition={}, first_seen_at=now)
            record(AuditEvent.TOOL_CHANGED, server=server.slug)
            has_appended.set()
            _until_one_waits()

    assert _beside(hold_the_server, add_a_row_of_it) == []
    assert AuditRecord.objects.count() == AuditHead.objects.get().sequence


def test_what_is_gathered_is_appended_in_order_and_at_the_end(alice: User) -> None:
    with transaction.atomic(), appended_last():
        record(AuditEvent.SERVER_DELETED, actor=alice)
        with appended_last():
            append_many([entry(AuditEvent.CREDENTIALS_REVOKED), entry(AuditEvent.KEY_ROTATED)])
        assert not AuditRecord.objects.exists()
    kept = AuditRecord.objects.order_by("sequence").values_list("event", flat=True)
    assert list(kept) == ["server.deleted", "credentials.revoked", "key.rotated"]
    record(AuditEvent.KEY_ROTATED)
    assert AuditRecord.objects.count() == 4


def test_nothing_that_was_gathered_is_appended_where_the_change_fails() -> None:
    with transaction.atomic(), contextlib.suppress(ZeroDivisionError), appended_last():
        record(AuditEvent.SERVER_DELETED)
        raise ZeroDivisionError
    record(AuditEvent.KEY_ROTATED)
    assert AuditRecord.objects.get().event == "key.rotated"
