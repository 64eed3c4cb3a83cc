"""Events are handed on once, and rows are claimed once, whoever else does the same at that moment."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from connections.models import Connection, McpServer
from oauthflow.events import emit
from oauthflow.flows import carriers, outbox
from oauthflow.flows.carriers import begin, hand_on
from oauthflow.models import CarrierPosition, Event, EventType, Notice
from oauthflow.models.event import EventQuerySet

pytestmark = pytest.mark.django_db

MAIL = CarrierPosition.Carrier.MAIL


@pytest.fixture
def notes(alice: User) -> Connection:
    server = McpServer.objects.create(slug="notes", name="Notes", url="https://notes.example/mcp")
    return Connection.objects.create(server=server, user=alice)


@pytest.fixture
def notice(alice: User) -> Notice:
    now = timezone.now()
    return Notice.objects.create(
        user=alice, event_type="x", next_attempt_at=now, give_up_at=now + outbox.PATIENCE, created_at=now
    )


def test_a_new_carrier_begins_with_what_happens_from_now_on(notes: Connection) -> None:
    emit(EventType.TOKEN_REFRESHED, notes)
    assert begin(MAIL) == Event.objects.newest_cursor()


def test_many_events_come_in_pages_in_their_order_and_others_are_passed_over(
    notes: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carriers, "_PAGE", 2)
    begin(MAIL)
    wanted = []
    for _ in range(5):
        wanted.append(emit(EventType.TOKEN_REFRESHED, notes).cursor)
        emit(EventType.CREDENTIALS_REVOKED, notes)
    pages: list[list[int]] = []
    count = hand_on(
        MAIL,
        concerning=lambda: Event.objects.filter(event_type=EventType.TOKEN_REFRESHED),
        keep=lambda events: pages.append([event.cursor for event in events]),
    )
    assert (count, pages) == (5, [wanted[:2], wanted[2:4], wanted[4:]])
    assert begin(MAIL) == Event.objects.newest_cursor()


def test_what_another_worker_hands_on_meanwhile_comes_once(notes: Connection) -> None:
    begin(MAIL)
    emit(EventType.TOKEN_REFRESHED, notes)
    mine: list[Event] = []
    theirs: list[Event] = []

    def raced() -> EventQuerySet:
        hand_on(MAIL, concerning=Event.objects.all, keep=theirs.extend)
        return Event.objects.all()

    assert hand_on(MAIL, concerning=raced, keep=mine.extend) == 0
    assert (len(mine), len(theirs)) == (0, 1)


def test_nothing_is_passed_over_where_it_could_not_be_kept(notes: Connection) -> None:
    before = begin(MAIL)
    emit(EventType.TOKEN_REFRESHED, notes)

    def fails(events: object) -> None:
        raise RuntimeError("the database is full")

    with pytest.raises(RuntimeError):
        hand_on(MAIL, concerning=Event.objects.all, keep=fails)
    assert begin(MAIL) == before


def test_a_row_that_was_read_and_then_taken_by_somebody_else_is_left_out(notice: Notice) -> None:
    now = timezone.now()
    assert outbox.claim(Notice.objects.get(), now=now)
    assert not outbox.claim(notice, now=now)
    assert not outbox.claim(notice, now=now + outbox.CLAIM)


def test_a_claim_that_has_ended_is_taken_over_and_not_written_over(notice: Notice) -> None:
    now = timezone.now()
    rows = Notice.objects.all()
    (mine,) = outbox.claim_due(rows, now=now, most=5)
    assert outbox.claim_due(rows, now=now, most=5) == []
    (theirs,) = outbox.claim_due(rows, now=now + outbox.CLAIM, most=5)
    assert not outbox.write_back(mine, next_attempt_at=None)
    assert outbox.write_back(theirs, next_attempt_at=None)


def test_pauses_grow_to_an_hour_and_obey_the_other_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox._random, "random", lambda: 1.0)
    assert [outbox.pause_after(attempts).total_seconds() for attempts in (1, 2, 3, 9, 10, 1000)] == [
        10, 20, 40, 2560, 3600, 3600,
    ]  # fmt: skip
    assert outbox.pause_after(1, asked_seconds=90).total_seconds() == 90
