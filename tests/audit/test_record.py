"""Records are appended, complete, free of secrets, and final."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from audit.chain import broken_links
from audit.correlation import begin_correlation
from audit.events import AuditEvent
from audit.models import AuditHead, AuditRecord, RecordIsFinalError
from audit.record import record

from .recorded import recorded

pytestmark = pytest.mark.django_db


def test_a_record_says_who_did_what_to_what_and_in_which_request(alice: User) -> None:
    begin_correlation("request-12345")
    written = recorded(
        AuditEvent.TOKEN_RELEASED,
        actor=alice,
        server="notion",
        connection="8d3a",
        client="laptop",
        reason="asked",
        details={"scope": "read"},
    )
    kept = AuditRecord.objects.get(sequence=written.sequence)
    assert (kept.event, kept.actor, kept.server, kept.connection, kept.client, kept.reason) == (
        "token.released", str(alice.pk), "notion", "8d3a", "laptop", "asked",
    )  # fmt: skip
    assert kept.correlation_id == "request-12345"
    assert kept.details == {"scope": "read"}
    assert kept.at.utcoffset() is not None


def test_without_an_actor_it_was_the_system() -> None:
    assert recorded(AuditEvent.TOKEN_REFRESHED).actor == "system"


def test_records_are_numbered_without_gaps_and_the_head_knows_the_last() -> None:
    numbers = [recorded(AuditEvent.TOKEN_REFRESHED).sequence for _ in range(5)]
    assert numbers == [1, 2, 3, 4, 5]
    head = AuditHead.objects.get()
    assert (head.sequence, head.mac) == (5, AuditRecord.objects.get(sequence=5).mac)


def test_a_record_of_a_change_that_is_rolled_back_is_rolled_back_and_leaves_no_gap() -> None:
    record(AuditEvent.TOKEN_REFRESHED)

    with transaction.atomic():
        record(AuditEvent.SERVER_DELETED)
        transaction.set_rollback(True)
    assert recorded(AuditEvent.TOKEN_REFRESHED).sequence == 2
    assert not AuditRecord.objects.filter(event=AuditEvent.SERVER_DELETED).exists()


def test_a_detail_under_an_unlisted_name_is_refused_and_nothing_is_written() -> None:
    with pytest.raises(ValueError, match="access_token"):
        record(AuditEvent.TOKEN_RELEASED, details={"access_token": "whatever"})
    assert AuditRecord.objects.count() == 0


@pytest.mark.parametrize(
    ("given", "kept"),
    [(None, None), (True, True), (3, 3), (["b", "a"], ["a", "b"]), ({"x"}, ["x"]), ("y" * 600, "y" * 500), (1j, "1j")],
)
def test_details_are_kept_as_plain_short_json(given: object, kept: object) -> None:
    assert recorded(AuditEvent.TOKEN_RELEASED, details={"scope": given}).details == {"scope": kept}


def test_a_record_cannot_be_saved_again() -> None:
    written = AuditRecord.objects.get(sequence=recorded(AuditEvent.KEY_ROTATED).sequence)
    written.reason = "something else"
    with pytest.raises(RecordIsFinalError):
        written.save()


def test_a_record_cannot_be_deleted() -> None:
    with pytest.raises(RecordIsFinalError):
        recorded(AuditEvent.KEY_ROTATED).delete()


def test_records_cannot_be_changed_or_deleted_in_bulk() -> None:
    record(AuditEvent.KEY_ROTATED)
    with pytest.raises(RecordIsFinalError):
        AuditRecord.objects.update(reason="something else")
    with pytest.raises(RecordIsFinalError):
        AuditRecord.objects.all().delete()
    assert AuditRecord.objects.get().reason == ""


def test_the_records_of_a_deleted_user_stay(alice: User) -> None:
    record(AuditEvent.TOKEN_RELEASED, actor=alice)
    alice.delete()
    assert AuditRecord.objects.count() == 1


@pytest.mark.parametrize("given", ["", "short", "with space", "x" * 65, "line\nbreak-id"])
def test_a_correlation_id_that_is_not_plain_is_replaced(given: str) -> None:
    chosen = begin_correlation(given)
    assert chosen != given
    assert len(chosen) == 32


@pytest.mark.django_db(transaction=True)
def test_writers_at_the_same_time_leave_one_chain_without_gaps() -> None:
    def write(count: int) -> None:
        for number in range(count):
            with transaction.atomic():
                record(AuditEvent.TOKEN_REFRESHED, details={"count": number})
        connection.close()

    with ThreadPoolExecutor(max_workers=4) as writers:
        for finished in [writers.submit(write, 10) for _ in range(4)]:
            finished.result()
    head = AuditHead.objects.get()
    kept = AuditRecord.objects.order_by("sequence")
    assert [entry.sequence for entry in kept] == list(range(1, 41))
    assert list(broken_links(iter(kept), head_sequence=head.sequence, head_mac=head.mac)) == []
