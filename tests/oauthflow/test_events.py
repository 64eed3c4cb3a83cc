"""Each change of a connection is told once, in its transaction, with nothing that is secret."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks

from audit.append import append_many
from audit.events import AuditEvent
from audit.record import entry, record
from connections.models import Connection
from connections.revocations import end_grants
from connections.server_changes import delete_server
from connections.services import require_reauthorization, shared_connection
from oauthflow import signals
from oauthflow.events import emit
from oauthflow.flows.refresh import refresh_connection
from oauthflow.models import Event, EventType
from oauthflow.protocol.codes import REASONS, SENTENCES, Code
from oauthflow.tasks import purge_finished_requests
from tests.fakes.world import World


def told() -> list[str]:
    """Types of all events, oldest first."""
    return list(Event.objects.order_by("cursor").values_list("event_type", flat=True))


def test_a_connection_tells_its_life(world: World, alice: User, now: datetime) -> None:
    connection = world.connect(alice, now=now)
    refresh_connection(connection, now=now, trigger="request")
    require_reauthorization(connection, reason=Code.INVALID_GRANT)
    end_grants([connection], actor=alice, reason="my own words", now=timezone.now())
    assert told() == [
        "authorization.required", "authorization.completed", "token.refreshed", "reauthorization.required",
        "credentials.revoked",
    ]  # fmt: skip
    assert {event.user_id for event in Event.objects.all()} == {alice.pk}
    assert {event.connection_id for event in Event.objects.all()} == {connection.pk}
    assert [event.requires_user_action for event in Event.objects.all()] == [True, False, False, True, False]


def test_people_hear_that_they_were_disconnected_by_the_deletion_of_a_server(
    world: World, alice: User, bob: User, administrator: User, now: datetime
) -> None:
    hers = world.connect(alice, now=now)
    connections = hers, world.connect(bob, now=now), shared_connection(hers.server)
    Event.objects.all().delete()
    delete_server(hers.server, actor=administrator, confirmed=True)
    assert set(Event.objects.values_list("event_type", "connection_id", "user_id")) == {
        ("credentials.revoked", connection.pk, connection.user_id) for connection in connections
    }


def test_an_event_says_why_in_our_sentence_and_repeats_nobodys_words(world: World, alice: User) -> None:
    connection = world.connection(alice)
    require_reauthorization(connection, reason=Code.INVALID_GRANT)
    end_grants([connection], actor=alice, reason="password123", now=timezone.now())
    ended, revoked = Event.objects.all()
    assert (ended.code, ended.message) == (Code.INVALID_GRANT, SENTENCES[Code.INVALID_GRANT].message)
    assert revoked.code == ""
    assert "password123" not in str(Event.objects.values())


@pytest.mark.parametrize("reason", ["identity_required", "refresh_outcome_lost", "no_refresh_token"])
def test_an_event_says_why_too_where_the_reason_is_none_of_the_codes(world: World, alice: User, reason: str) -> None:
    require_reauthorization(world.connection(alice), reason=reason)
    event = Event.objects.get()
    assert (event.event_type, event.message, event.code) == (EventType.REAUTHORIZATION_REQUIRED, REASONS[reason], "")


def test_the_wait_for_a_person_names_its_request_and_no_state(world: World, alice: User, now: datetime) -> None:
    connection = world.connection(alice)
    params, _ = world.come_back(connection, user=alice, now=now)
    event = Event.objects.get()
    assert event.request_id == connection.authorization_requests.get().pk
    assert params["state"] not in str(Event.objects.values())


def test_what_is_rolled_back_is_not_told(world: World, alice: User) -> None:
    connection = world.connection(alice)
    with transaction.atomic():
        require_reauthorization(connection, reason=Code.INVALID_GRANT)
        transaction.set_rollback(True)
    assert told() == []


def test_an_event_of_a_shared_connection_has_no_owner(world: World) -> None:
    connection = shared_connection(world.server(connection_policy="shared"))
    require_reauthorization(connection, reason=Code.INVALID_GRANT)
    assert Event.objects.get().user_id is None


def test_events_are_seen_by_the_owner_and_shared_ones_by_whoever_may_use_the_server(
    world: World, alice: User, bob: User
) -> None:
    server = world.server(connection_policy="shared_with_personal")
    server.users.set([alice])
    require_reauthorization(shared_connection(server), reason=Code.INVALID_GRANT)
    require_reauthorization(world.connection(bob), reason=Code.INVALID_GRANT)
    require_reauthorization(world.connection(alice), reason=Code.INVALID_GRANT)
    assert [event.user_id for event in Event.objects.visible_to(alice)] == [None, alice.pk]
    assert [event.user_id for event in Event.objects.visible_to(bob)] == [bob.pk]


def test_a_server_that_moves_tells_each_stopped_connection_once(
    world: World, alice: User, bob: User, now: datetime
) -> None:
    stopped = {world.connect(alice, now=now).pk, world.connect(bob, now=now).pk}
    Event.objects.all().delete()
    Connection.objects.update(status="issuer_changed", reason="issuer_changed")
    record(AuditEvent.ISSUER_CHANGED, server="notes")
    assert {event.connection_id for event in Event.objects.all()} == stopped
    assert told() == ["issuer.changed", "issuer.changed"]


def test_an_ordinary_change_of_a_server_tells_nothing(world: World, alice: User) -> None:
    world.connection(alice)
    Connection.objects.update(status="issuer_changed", reason="issuer_changed")
    record(AuditEvent.SERVER_CHANGED, server="notes", details={"fields": ["name"], "count": 0})
    assert told() == []


def test_a_record_without_a_connection_of_ours_is_no_event(db: None) -> None:
    record(AuditEvent.TOKEN_REFRESHED, connection="5f3c1f0e-0000-4000-8000-000000000000", server="gone")
    record(AuditEvent.LOGIN_FAILED)
    assert told() == []


def test_what_was_recorded_together_is_told_in_that_order(world: World, alice: User) -> None:
    mine, shared = world.connection(alice), shared_connection(world.server(slug="all", connection_policy="shared"))
    kinds = [AuditEvent.TOKEN_REFRESHED, AuditEvent.TOKEN_REFRESH_FAILED, AuditEvent.TOKEN_REFRESHED] * 5
    append_many([entry(kind, connection=of) for kind in kinds for of in (shared, mine)])
    assert told() == [kind.value for kind in kinds for _ in range(2)]
    assert [event.user_id for event in Event.objects.order_by("cursor")] == [None, alice.pk] * len(kinds)


def test_what_no_audit_record_tells_is_emitted(world: World, alice: User) -> None:
    event = emit(EventType.TOKEN_EXPIRING_SOON, world.connection(alice), message="Ends tomorrow.")
    assert (event.message, event.requires_user_action, event.server) == ("Ends tomorrow.", True, "notes")
    assert Event.objects.get().cursor == event.cursor


@pytest.mark.parametrize("event_type", EventType)
def test_each_event_is_a_django_signal_after_the_commit(
    event_type: EventType,
    world: World,
    alice: User,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    received: list[Event] = []

    def receive(sender: object, *, event: Event, **kwargs: Any) -> None:
        received.append(event)

    def fail(sender: object, **kwargs: Any) -> None:
        raise RuntimeError("a receiver's own trouble")

    signal = getattr(signals, event_type.name.lower())
    connection = world.connection(alice)
    signal.connect(fail)
    signal.connect(receive)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            written = emit(event_type, connection)
            assert received == []
    finally:
        signal.disconnect(fail)
        signal.disconnect(receive)
    assert received == [written]


def test_events_of_last_week_go_but_the_last_stays_to_keep_the_count(world: World, alice: User) -> None:
    connection = world.connection(alice)
    for _ in range(3):
        emit(EventType.TOKEN_REFRESHED, connection)
    Event.objects.update(created_at=timezone.now() - timedelta(days=8))
    newest = Event.objects.newest_cursor()
    purge_finished_requests()
    assert [event.cursor for event in Event.objects.all()] == [newest]


def test_younger_events_stay(world: World, alice: User) -> None:
    connection = world.connection(alice)
    old, *young = [emit(EventType.TOKEN_REFRESHED, connection).cursor for _ in range(3)]
    Event.objects.filter(cursor=old).update(created_at=timezone.now() - timedelta(days=8))
    purge_finished_requests()
    assert [event.cursor for event in Event.objects.all()] == young
