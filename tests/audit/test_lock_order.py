"""Whoever holds the end of the chain waits for nobody: several changes at once, and none ends in a deadlock."""

from __future__ import annotations

import contextlib

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from audit.append import append_many, appended_last
from audit.events import AuditEvent
from audit.models import AuditHead, AuditRecord
from audit.record import entry, record
from gateway.models import ToolDefinition
from oauthflow.flows.register_client import lock_registrations
from tests.fakes.world import World
from tests.two_at_once import at_once, on_postgresql

pytestmark = pytest.mark.django_db(transaction=True)


@on_postgresql
def test_a_row_that_names_a_server_is_checked_before_the_end_is_locked(world: World) -> None:
    server = world.server()
    record(AuditEvent.SERVER_CHANGED, server=server.slug)

    def hold_the_server() -> None:
        with transaction.atomic():
            lock_registrations(server)
            record(AuditEvent.CLIENT_REGISTERED, server=server.slug)

    def add_a_row_of_it() -> None:
        with transaction.atomic():
            now = timezone.now()
            ToolDefinition.objects.create(server=server, name="add", digest="d", definition={}, first_seen_at=now)
            record(AuditEvent.TOOL_CHANGED, server=server.slug)

    at_once(
        hold_the_server,
        add_a_row_of_it,
        holding=r'SELECT .*FROM "connections_mcpserver".* FOR ',
        taking="UPDATE audit_audithead SET mac",
    )
    assert AuditRecord.objects.count() == AuditHead.objects.get().sequence == 3


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
