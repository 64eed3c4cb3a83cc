"""The end of the chain is noted outside the database in time, and never at the cost of what is recorded. K07."""

from __future__ import annotations

import io
import logging
import os
import stat
import time
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction
from pytest_django import Settings

from audit import anchors
from audit.anchors import anchor_head, note_head, our_anchors, read_anchors
from audit.append import append_many
from audit.events import AuditEvent
from audit.models import AuditHead, AuditRecord
from audit.record import entry
from audit.tasks import note_audit_head
from audit.verification import problems, whole_chain

from .recorded import recorded


@pytest.fixture
def head_file(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # As if the last note had been a moment ago, however long this process has been running other tests.
    monkeypatch.setattr(anchors._writer, "given_at", time.monotonic())
    settings.AUDIT_HEAD_FILE = tmp_path / "audit-head.log"
    return tmp_path / "audit-head.log"


def _write(count: int) -> None:
    append_many([entry(AuditEvent.TOKEN_RELEASED) for _ in range(count)])


def _finish() -> None:
    """Wait for the thread that writes."""
    if anchors._writer._threads is not None:
        anchors._writer._threads.submit(lambda: None).result()


@pytest.mark.django_db(transaction=True)
def test_every_hundredth_record_is_noted_once_it_is_committed(head_file: Path) -> None:
    _write(99)
    _finish()
    assert not head_file.exists()
    with transaction.atomic():
        _write(1)
        _finish()
        assert not head_file.exists()
    _finish()
    assert our_anchors() == {100: {AuditRecord.objects.get(sequence=100).mac}}
    _write(250)
    _finish()
    assert sorted(our_anchors()) == [100, 350]
    assert stat.S_IMODE(head_file.stat().st_mode) == 0o600


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_not_noted(head_file: Path) -> None:
    with transaction.atomic():
        _write(100)
        transaction.set_rollback(True)
    _finish()
    assert not head_file.exists()


@pytest.mark.django_db(transaction=True)
def test_after_a_minute_the_next_record_is_noted(head_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(1)
    monkeypatch.setattr(anchors._writer, "given_at", anchors._writer.given_at - anchors.SECONDS)
    _write(1)
    _write(1)
    _finish()
    assert sorted(our_anchors()) == [2]


@pytest.mark.django_db
def test_the_task_notes_the_end_also_when_nothing_follows_and_only_once(head_file: Path) -> None:
    assert not note_audit_head()
    _write(3)
    assert note_audit_head()
    assert not note_audit_head()
    assert sorted(our_anchors()) == [3]


@pytest.mark.django_db
def test_a_site_that_notes_nothing_still_records(settings: Settings) -> None:
    settings.AUDIT_HEAD_FILE = None
    _write(200)
    assert (anchor_head(), our_anchors()) == (False, {})


def test_a_file_that_cannot_be_written_is_logged_and_nothing_more(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings.AUDIT_HEAD_FILE = tmp_path / "none" / "audit-head.log"
    with caplog.at_level(logging.INFO):
        note_head(5, "ab" * 32)
    assert "could not be noted" in caplog.text
    assert f"audit head 5 {'ab' * 16}" in caplog.text


def test_a_line_that_was_torn_by_a_crash_spoils_no_other(head_file: Path) -> None:
    note_head(100, "a" * 64)
    with head_file.open("a") as file:
        file.write("2026-11-21T12:00:00+00:00 audit he")
    note_head(200, "b" * 64)
    assert our_anchors() == {100: {"a" * 64}, 200: {"b" * 64}}


def test_a_log_serves_as_well_as_the_file(tmp_path: Path) -> None:
    log = tmp_path / "site.log"
    log.write_text(f'{{"event": "audit head 7 {"c" * 32}", "level": "info"}}\nsomething else\n')
    assert read_anchors([log]) == {7: {"c" * 32}}


def test_a_forked_process_gets_a_writer_of_its_own(head_file: Path) -> None:
    anchors._writer.write(1, "a" * 64)
    _finish()
    child = os.fork()
    if not child:
        anchors._writer.write(2, "b" * 64)
        _finish()
        os._exit(0)
    os.waitpid(child, 0)
    assert sorted(our_anchors()) == [1, 2]


@pytest.mark.django_db
def test_verifying_compares_with_this_hosts_file_and_with_others(head_file: Path, tmp_path: Path) -> None:
    _write(5)
    anchor_head()
    output = io.StringIO()
    call_command("audit_verify", stdout=output)
    assert output.getvalue() == "The chain holds: 5 records, the last is 5.\n1 ends that were noted outside agree.\n"
    other = tmp_path / "other-host.log"
    other.write_text(f"2026-11-21 audit head 9 {'d' * 64}\n")
    with pytest.raises(CommandError, match=r"broken at record 6: the end of the chain was cut off; record 9 was noted"):
        call_command("audit_verify", "--anchors", str(other))
    other.write_text(f"2026-11-21 audit head 4 {'d' * 64}\n")
    with pytest.raises(CommandError, match=r"broken at record 4: it is not the record that was noted outside"):
        call_command("audit_verify", "--anchors", str(other))
    with pytest.raises(CommandError, match=r"cannot be read"):
        call_command("audit_verify", "--anchors", str(tmp_path / "nowhere"))


@pytest.mark.django_db
def test_a_file_without_an_end_to_compare_with_is_not_said_to_agree(head_file: Path, tmp_path: Path) -> None:
    _write(5)
    anchor_head()
    wrong = tmp_path / "another.log"
    wrong.write_text("something else\n")
    with pytest.raises(CommandError, match=r"another\.log holds no end of the audit record to compare with"):
        call_command("audit_verify", "--anchors", str(wrong))


@pytest.mark.django_db
def test_what_comes_through_a_pipe_is_compared_too(head_file: Path) -> None:
    _write(5)
    reading, writing = os.pipe()
    os.write(writing, f"2026-11-21 audit head 4 {'d' * 64}\n".encode())
    os.close(writing)
    with pytest.raises(CommandError, match=r"broken at record 4: it is not the record that was noted outside"):
        call_command("audit_verify", "--anchors", f"/dev/fd/{reading}")
    os.close(reading)


@pytest.mark.django_db
def test_ends_before_the_record_after_which_verifying_goes_on_are_not_counted(head_file: Path) -> None:
    for _ in range(2):
        _write(3)
        anchor_head()
    output = io.StringIO()
    call_command("audit_verify", after=4, stdout=output)
    assert output.getvalue() == "The chain holds: 2 records, the last is 6.\n1 ends that were noted outside agree.\n"


@pytest.mark.django_db
def test_records_that_are_added_during_verification_are_no_cut(head_file: Path) -> None:
    _write(3)
    span = whole_chain()
    written = recorded(AuditEvent.TOKEN_REFRESHED)
    note_head(written.sequence, written.mac)
    assert list(problems(span, anchors=our_anchors())) == []
    assert AuditHead.objects.get().sequence == 4
