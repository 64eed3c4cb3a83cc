"""Old records and personal words can go, nothing else can, and the chain still verifies. K07, K08."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from pytest_django import Settings

from audit import append, erasure, guard, pages, retention
from audit.amendments import AuditCheckpoint, AuditErasure
from audit.erasure import erase_words
from audit.events import AuditEvent
from audit.models import AuditHead, AuditRecord
from audit.record import record
from audit.retention import remove_older
from audit.tasks import remove_old_audit_records
from audit.verification import problems, whole_chain
from connections.models import Connection, McpServer
from tests.terminal import Terminal

from .recorded import recorded

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    output = io.StringIO()
    call_command(*words, stdout=output)
    return output.getvalue()


def refused(*words: str, code: int = 1) -> str:
    with pytest.raises(CommandError) as raised:
        run(*words)
    assert raised.value.returncode == code
    return str(raised.value)


def _last_drawn() -> list[str]:
    """The last state of each bar."""
    assert isinstance(sys.stderr, Terminal)
    return [line.rpartition("\r")[2] for line in sys.stderr.getvalue().split("\n")[:-1]]


def _numbers() -> list[int]:
    return list(AuditRecord.objects.order_by("sequence").values_list("sequence", flat=True))


@pytest.fixture
def aged(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Eight records, one a day, the newest of today."""
    now = timezone.now()
    with monkeypatch.context() as patch:
        for days in range(7, -1, -1):
            patch.setattr(append.timezone, "now", lambda at=now - timedelta(days=days): at)
            record(AuditEvent.TOKEN_RELEASED, actor="7", details={"count": days})
    return now


def _execute(statement: str, *, flag: str = "") -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        if flag:
            guard.allow(flag)
        cursor.execute(statement)


@pytest.mark.parametrize("flag", ["", "removes", "erases"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_auditrecord SET reason = 'x' WHERE sequence = 3",
        "UPDATE audit_auditrecord SET sequence = 99 WHERE sequence = 3",
        "DELETE FROM audit_auditrecord WHERE sequence = 3",
        "DELETE FROM audit_auditrecord",
    ],
)
def test_the_database_refuses_to_change_or_delete_a_record(aged: datetime, statement: str, flag: str) -> None:
    with pytest.raises(IntegrityError, match="audit records are final"):
        _execute(statement, flag=flag)
    assert run("audit_verify") == "The chain holds: 8 records, the last is 8.\n"


def test_a_migration_that_copies_the_table_leaves_the_guard(aged: datetime) -> None:
    if connection.vendor == "sqlite":
        guard.remove(None, connection.schema_editor())
    guard.restore_after_migrations()
    with pytest.raises(IntegrityError):
        _execute("DELETE FROM audit_auditrecord")


def test_old_records_go_and_the_chain_begins_at_a_sealed_checkpoint(aged: datetime) -> None:
    assert run("audit_trim", "--keep-days", "5", "--dry-run") == "3 records are older than 5 days.\n"
    assert _numbers()[0] == 1
    assert run("audit_trim", "--keep-days", "5") == "3 records were removed.\n"
    assert _numbers() == [4, 5, 6, 7, 8]
    said = "The chain holds: 5 records, the last is 8.\nRecords up to 3 were removed because of their age.\n"
    assert run("audit_verify") == said
    assert run("audit_verify", "--after", "4").startswith("The chain holds: 4 records")
    assert refused("audit_verify", "--after", "2") == "There is no record 2 to go on after."
    assert run("audit_trim", "--keep-days", "5") == "0 records were removed.\n"
    record(AuditEvent.TOKEN_REFRESHED)
    assert run("audit_trim", "--keep-days", "1").startswith("4 ")
    assert list(AuditCheckpoint.objects.values_list("sequence", "removed")) == [(7, 4), (3, 3)]
    assert run("audit_verify").startswith("The chain holds: 2 records, the last is 9.")


def test_a_terminal_sees_how_far_the_removal_is(aged: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(retention, "_BATCH", 2)
    assert run("audit_trim", "--keep-days", "5") == "3 records were removed.\n"
    assert [line.split()[0] for line in _last_drawn()] == ["Verifying", "Removing"]
    assert _last_drawn()[1].endswith("3/3 100%")


def test_a_removal_that_is_stopped_keeps_what_it_did_and_is_finished_by_the_next(
    aged: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(items: Iterator[int], *, label: str, **_: object) -> Iterator[int]:
        for item in items:
            yield item
            if label == "Removing":
                raise KeyboardInterrupt

    monkeypatch.setattr(retention, "_BATCH", 1)
    monkeypatch.setattr("audit.progress.with_progress", stopped)
    assert refused("audit_trim", "--keep-days", "5", code=130) == "Stopped. Run it again to go on."
    assert _numbers()[0] == 2
    monkeypatch.undo()
    assert run("audit_trim", "--keep-days", "5") == "2 records were removed.\n"


def test_all_records_can_go_and_the_next_one_follows_on(aged: datetime) -> None:
    assert remove_older(before=aged + timedelta(days=1), now=aged) == 8
    assert list(problems(whole_chain())) == []
    assert recorded(AuditEvent.TOKEN_REFRESHED).sequence == 9
    assert list(problems(whole_chain())) == []


@pytest.mark.parametrize("days", ["0", "-3", "100000"])
def test_a_number_of_days_that_makes_no_sense_removes_nothing(aged: datetime, days: str) -> None:
    assert "number of days" in refused("audit_trim", f"--keep-days={days}")
    assert len(_numbers()) == 8


def test_nothing_is_removed_from_a_broken_chain(aged: datetime, settings: Settings) -> None:
    guard.remove(None, connection.schema_editor())
    _execute("UPDATE audit_auditrecord SET reason = 'x' WHERE sequence = 2")
    assert refused("audit_trim", "--keep-days", "5") == (
        "Nothing was removed: the chain is broken at record 2: its content was changed."
    )
    settings.AUDIT_RETENTION_DAYS = 5
    assert remove_old_audit_records() == 0
    assert (len(_numbers()), AuditCheckpoint.objects.count()) == (8, 0)


def test_the_task_removes_after_the_configured_days_and_never_without(aged: datetime, settings: Settings) -> None:
    assert remove_old_audit_records() == 0
    settings.AUDIT_RETENTION_DAYS = 5
    assert remove_old_audit_records() == 3


def test_a_run_that_was_killed_after_its_checkpoint_is_finished_by_the_next(
    aged: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_BATCH", 1)
    with monkeypatch.context() as patch:
        patch.setattr(retention, "_delete", lambda below: iter(()))
        remove_older(before=aged - timedelta(days=4, hours=12), now=aged)
    assert (len(_numbers()), list(problems(whole_chain()))) == (8, [])
    assert remove_older(before=aged - timedelta(days=4, hours=12), now=aged) == 3
    assert _numbers()[0] == 4


def test_two_runs_at_once_set_one_checkpoint(aged: datetime) -> None:
    last = AuditRecord.objects.get(sequence=3)
    retention._set_checkpoint(last, removed=3, now=aged)
    retention._set_checkpoint(last, removed=3, now=aged)
    assert AuditCheckpoint.objects.count() == 1


@pytest.mark.parametrize("kept_days", [5, 0])
def test_records_that_go_while_the_chain_is_verified_are_no_break(
    aged: datetime, monkeypatch: pytest.MonkeyPatch, kept_days: int
) -> None:
    monkeypatch.setattr(pages, "_PAGE", 2)

    def trimmed_meanwhile(found: Iterator[AuditRecord], total: int, label: str) -> Iterator[AuditRecord]:
        for entry in found:
            if entry.sequence == 1:
                remove_older(before=aged - timedelta(days=kept_days, seconds=-1), now=aged)
            yield entry

    assert list(problems(whole_chain(), shown=trimmed_meanwhile)) == []
    assert _numbers() == ([4, 5, 6, 7, 8] if kept_days else [])


@pytest.mark.parametrize(
    ("kept_days", "after", "said"),
    [
        (5, (), "The chain holds: 5 records, the last is 8.\nRecords up to 3 were removed because of their age.\n"),
        (5, ("--after", "2"), "The chain holds: 5 records, the last is 8.\nRecords up to 3 "),
        (5, ("--after", "6"), "The chain holds: 2 records, the last is 8.\nRecords up to 3 "),
        (0, (), "The chain holds: 0 records, the last is 8.\nRecords up to 8 "),
    ],
)
def test_what_is_told_of_a_chain_is_what_is_left_of_it(
    aged: datetime, monkeypatch: pytest.MonkeyPatch, kept_days: int, after: tuple[str, ...], said: str
) -> None:
    def trimmed_meanwhile(found: Iterator[AuditRecord], **_: object) -> Iterator[AuditRecord]:
        for entry in found:
            yield entry
            remove_older(before=aged - timedelta(days=kept_days, seconds=-1), now=aged)

    monkeypatch.setattr("audit.progress.with_progress", trimmed_meanwhile)
    assert run("audit_verify", *after).startswith(said)


def test_a_break_behind_records_that_go_meanwhile_is_found(aged: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_PAGE", 2)

    def changed_meanwhile(found: Iterator[AuditRecord], total: int, label: str) -> Iterator[AuditRecord]:
        for entry in found:
            if entry.sequence == 1:
                remove_older(before=aged - timedelta(days=5, seconds=-1), now=aged)
                AuditHead.objects.update(mac="0" * 64)
            yield entry

    assert [found.sequence for found in problems(whole_chain(), shown=changed_meanwhile)] == [9]


def test_a_checkpoint_that_is_not_ours_is_found(aged: datetime) -> None:
    last = AuditRecord.objects.get(sequence=3)
    AuditCheckpoint.objects.create(
        sequence=3, record_mac=last.mac, removed=3, at=aged, key_id=last.key_id, seal="0" * 64
    )
    _execute("DELETE FROM audit_auditrecord WHERE sequence < 4", flag="removes")
    assert refused("audit_verify") == (
        "The chain is broken at record 3: records up to here were removed without a checkpoint of ours."
    )


def test_a_checkpoint_whose_removal_was_undone_or_moved_is_found(aged: datetime) -> None:
    run("audit_trim", "--keep-days", "5")
    AuditCheckpoint.objects.update(record_mac="0" * 64)
    assert "record 3" in refused("audit_verify")
    AuditCheckpoint.objects.all().delete()
    assert refused("audit_verify") == "The chain is broken at record 1: this record is missing."


def test_what_was_noted_outside_still_agrees_with_the_checkpoint(
    aged: datetime, settings: Settings, tmp_path: Path
) -> None:
    settings.AUDIT_HEAD_FILE = tmp_path / "audit-head.log"
    third = AuditRecord.objects.get(sequence=3)
    settings.AUDIT_HEAD_FILE.write_text(f"audit head 1 {'e' * 64}\naudit head 3 {third.mac}\n")
    assert "record 1:" in refused("audit_trim", "--keep-days", "5")
    settings.AUDIT_HEAD_FILE.write_text(f"audit head 3 {third.mac}\n")
    run("audit_trim", "--keep-days", "5")
    assert "1 ends" in run("audit_verify")
    settings.AUDIT_HEAD_FILE.write_text(f"audit head 3 {'e' * 64}\n")
    assert "record 3: it is not the record" in refused("audit_verify")


# ---- Personal words


@pytest.fixture
def spoken(alice: User, bob: User) -> Connection:
    """Alice's deeds, Bob's words about her connection, and Bob's own deeds."""
    server = McpServer.objects.create(name="Notes", slug="notes", url="https://notes.example.com/mcp")
    connection = Connection.objects.create(server=server, user=alice)
    record(AuditEvent.AUTHORIZATION_COMPLETED, actor=alice, connection=connection, details={"label": "Alice at home"})
    record(AuditEvent.TOKEN_RELEASED, actor=alice, connection=connection, client="Alice's laptop")
    record(AuditEvent.CREDENTIALS_REVOKED, actor=bob, connection=connection, reason="Alice has left us")
    record(AuditEvent.CREDENTIALS_REVOKED, actor=alice, connection=connection, reason="disconnected")
    record(AuditEvent.SERVER_CHANGED, actor=bob, client="Bob's script", reason="Bob wanted it")
    return connection


@pytest.mark.parametrize("is_deleted_before", [False, True])
def test_the_words_of_a_person_go_and_what_they_did_stays(
    spoken: Connection, alice: User, is_deleted_before: bool
) -> None:
    number = alice.pk
    if is_deleted_before:
        alice.delete()
    assert run("audit_erase_user", str(number)) == "Words were erased in 3 records.\n"
    entries = list(AuditRecord.objects.order_by("sequence"))
    assert "Alice" not in str([(entry.client, entry.reason, entry.details) for entry in entries])
    assert [entry.actor for entry in entries].count(str(number)) == 3
    assert (entries[3].reason, entries[4].client, entries[4].reason) == (
        "disconnected",
        "Bob's script",
        "Bob wanted it",
    )
    said = "The chain holds: 5 records, the last is 5.\nIn 3 records personal words were erased.\n"
    assert run("audit_verify") == said
    assert run("audit_erase_user", str(number)) == "Words were erased in 0 records.\n"


def test_a_terminal_sees_how_far_the_erasure_is(
    spoken: Connection, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(erasure, "_BATCH", 2)
    assert run("audit_erase_user", str(alice.pk)) == "Words were erased in 3 records.\n"
    assert _last_drawn()[0].startswith("Erasing [")
    assert _last_drawn()[0].endswith("3/3 100%")


def test_an_erasure_that_is_stopped_is_finished_by_the_next(
    spoken: Connection, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(items: Iterable[int], **_: object) -> Iterator[int]:
        yield next(iter(items))
        raise KeyboardInterrupt

    monkeypatch.setattr(erasure, "_BATCH", 2)
    monkeypatch.setattr("audit.progress.with_progress", stopped)
    assert refused("audit_erase_user", str(alice.pk), code=130) == "Stopped. Run it again to go on."
    monkeypatch.undo()
    assert run("audit_erase_user", str(alice.pk)) == "Words were erased in 1 records.\n"
    assert run("audit_verify").startswith("The chain holds: 5 records")


@pytest.mark.parametrize("number", ["9" * 26, "0", "-1"])
def test_a_number_that_no_account_has_is_told_in_one_sentence(db: None, number: str) -> None:
    assert refused("audit_erase_user", "--", number) == f"{number} is not the number of an account."


@pytest.mark.parametrize("reason", ["burnout", "left_for_competitor"])
def test_a_reason_of_one_word_is_a_persons_too(spoken: Connection, alice: User, bob: User, reason: str) -> None:
    record(AuditEvent.CREDENTIALS_REVOKED, actor=bob, connection=spoken, reason=reason)
    record(AuditEvent.REAUTHORIZATION_REQUIRED, connection=spoken, reason="invalid_grant")
    erase_words(str(alice.pk), connections=[str(spoken.pk)], now=timezone.now())
    assert [entry.reason for entry in AuditRecord.objects.order_by("sequence")[5:]] == ["", "invalid_grant"]


def test_the_address_of_a_resource_that_a_program_read_goes_and_the_name_of_a_tool_stays(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(AuditEvent.TOOL_CALLED, actor=alice, details={"method": "tools/call", "tool": "search"})
    read = {"method": "resources/read", "target": "drive:///alice@example.com/diary.txt", "status": 200}
    record(AuditEvent.TOOL_CALLED, actor=alice, client="Alice's laptop", details=read)
    monkeypatch.setattr(erasure, "_OF_CALLS", frozenset())  # as releases before erased
    assert run("audit_erase_user", str(alice.pk)) == "Words were erased in 1 records.\n"
    monkeypatch.undo()
    assert run("audit_erase_user", str(alice.pk)) == "Words were erased in 1 records.\n"
    kept = [{"method": "tools/call", "tool": "search"}, {"method": "resources/read", "status": 200}]
    assert [entry.details for entry in AuditRecord.objects.order_by("sequence")] == kept
    assert run("audit_verify").startswith("The chain holds: 2 records")


def test_an_erasure_vouches_for_what_it_left_and_for_nothing_else(spoken: Connection, alice: User) -> None:
    erase_words(str(alice.pk), now=timezone.now())
    _execute("UPDATE audit_auditrecord SET client = 'somebody else' WHERE sequence = 2", flag="erases")
    assert refused("audit_verify") == "The chain is broken at record 2: its content was changed."


def test_an_erasure_that_is_not_ours_hides_nothing(spoken: Connection) -> None:
    kept = AuditRecord.objects.get(sequence=5)
    AuditErasure.objects.create(sequence=5, at=timezone.now(), key_id=kept.key_id, seal="0" * 64)
    _execute("UPDATE audit_auditrecord SET reason = '' WHERE sequence = 5", flag="erases")
    assert "record 5: its content was changed" in refused("audit_verify")
    AuditErasure.objects.update(key_id="unknown")
    assert "record 5: its content was changed" in refused("audit_verify")
    assert AuditHead.objects.get().sequence == 5


def test_erased_records_can_be_removed_like_others(spoken: Connection, alice: User) -> None:
    run("audit_erase_user", str(alice.pk))
    now = timezone.now() + timedelta(days=1)
    assert remove_older(before=now, now=now) == 5
    assert AuditErasure.objects.count() == 0
