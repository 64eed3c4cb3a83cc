"""The audit record at the terminal: verified, and taken away."""

from __future__ import annotations

import csv
import io
import json
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from audit import guard
from audit.events import AuditEvent
from audit.management.commands import audit_export
from audit.models import AuditHead, AuditRecord
from audit.progress import bar, with_progress
from audit.record import record
from tests.terminal import Terminal

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    output = io.StringIO()
    call_command(*words, stdout=output)
    return output.getvalue()


def refused(*words: str) -> tuple[int, str]:
    with pytest.raises(CommandError) as raised:
        call_command(*words, stdout=io.StringIO())
    return raised.value.returncode, str(raised.value)


@pytest.fixture
def five(alice: User) -> None:
    for number in range(5):
        event = AuditEvent.KEY_ROTATED if number == 3 else AuditEvent.TOKEN_RELEASED
        record(event, actor=alice, server=f"s{number}", reason="=1+1", details={"count": number})


def _change(sequence: int, *, reason: str) -> None:
    """As somebody would who may drop triggers."""
    guard.remove(None, connection.schema_editor())
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_auditrecord SET reason = %s WHERE sequence = %s", [reason, sequence])


def _delete(sequence: int) -> None:
    guard.remove(None, connection.schema_editor())
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_auditrecord WHERE sequence = %s", [sequence])


@pytest.mark.parametrize("command", ["audit_verify", "audit_export"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command(command, "--help")
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_a_chain_that_holds_is_said_to_hold(five: None) -> None:
    assert run("audit_verify") == "The chain holds: 5 records, the last is 5.\n"
    assert run("audit_verify", "--after", "3") == "The chain holds: 2 records, the last is 5.\n"
    assert run("audit_verify", "--after", "5") == "The chain holds: 0 records, the last is 5.\n"


def test_an_empty_record_holds() -> None:
    assert run("audit_verify") == "The chain holds: 0 records, the last is 0.\n"


def test_a_changed_record_ends_with_1_and_is_named(five: None) -> None:
    _change(2, reason="nothing to see")
    _change(4, reason="nor here")
    assert refused("audit_verify") == (1, "The chain is broken at record 2: its content was changed.")
    assert refused("audit_verify", "--after", "2")[1].startswith("The chain is broken at record 4")


@pytest.mark.parametrize("sequence", [1, 3, 5])
def test_a_removed_record_ends_with_1_and_is_named(five: None, sequence: int) -> None:
    _delete(sequence)
    code, sentence = refused("audit_verify")
    assert code == 1
    assert f"record {sequence}:" in sentence


def test_a_record_beyond_the_end_is_found(five: None) -> None:
    AuditHead.objects.update(sequence=4, mac=AuditRecord.objects.get(sequence=4).mac)
    assert refused("audit_verify") == (1, "The chain is broken at record 5: it stands beyond the end.")


@pytest.mark.parametrize("after", ["-1", "6"])
def test_verifying_goes_on_only_after_a_record_that_exists(five: None, after: str) -> None:
    assert refused("audit_verify", f"--after={after}") == (1, f"There is no record {after} to go on after.")


def test_a_verification_that_is_stopped_says_how_to_go_on(five: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(items: Iterator[AuditRecord], **_: object) -> Iterator[AuditRecord]:
        yield next(items)
        yield next(items)
        yield next(items)
        raise KeyboardInterrupt

    monkeypatch.setattr("audit.progress.with_progress", stopped)
    code, sentence = refused("audit_verify")
    assert (code, sentence.rpartition(" ")[2]) == (130, "2")


def test_json_lines_are_exported_oldest_first_and_that_is_recorded(five: None) -> None:
    entries = [json.loads(line) for line in run("audit_export").splitlines()]
    assert [entry["sequence"] for entry in entries] == [1, 2, 3, 4, 5]
    assert entries[0]["details"] == {"count": 0}
    assert "mac" not in entries[0]
    written = AuditRecord.objects.get(event="audit.exported")
    assert (written.actor, written.details) == ("system", {"format": "jsonl", "count": 5})
    assert run("audit_verify").startswith("The chain holds")


def test_a_table_is_exported_with_one_head_line_and_no_formula(five: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_export, "_CHUNK", 2)
    rows = list(csv.DictReader(io.StringIO(run("audit_export", "--format", "csv"), newline="")))
    assert [row["sequence"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert {row["reason"] for row in rows} == {"'=1+1"}


def test_an_empty_table_has_its_head_line() -> None:
    assert run("audit_export", "--format", "csv").startswith("sequence,")
    assert run("audit_export", "--event", "key.rotated") == ""


def test_records_are_chosen_by_event_server_and_time(five: None) -> None:
    third = AuditRecord.objects.get(sequence=3).at.isoformat()
    for words, expected in (
        (("--event", "key.rotated"), [4]),
        (("--server", "s1"), [2]),
        (("--after", "3"), [4, 5]),
        (("--from", third, "--after", "2", "--to", "2100-01-01T00:00:00"), [3, 4, 5]),
        (("--to", third), [1, 2]),
    ):
        found = [json.loads(line) for line in run("audit_export", *words).splitlines()]
        assert [entry["sequence"] for entry in found if entry["event"] != "audit.exported"] == expected
    assert refused("audit_export", "--from", "yesterday")[0] == 1
    assert refused("audit_export", "--to", "2026-13-45T00:00:00")[0] == 1


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_no_calendar_has_in_utc_is_told_in_one_sentence(time: str) -> None:
    assert refused("audit_export", "--from", time) == (1, f"{time!r} is not a time such as 2026-11-20T00:00:00Z.")


def test_a_file_is_for_the_operator_alone_and_never_overwritten(five: None, tmp_path: Path) -> None:
    file = tmp_path / "audit.csv"
    words = ("audit_export", "--format", "csv", "--output", str(file))
    assert run(*words) == f"5 records written to {file}.\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert refused(*words) == (1, f"{file} is there already; choose another name, or go on with --after.")
    assert run(*words, "--after", "5") == f"1 record written to {file}.\n"
    rows = list(csv.DictReader(io.StringIO(file.read_bytes().decode(), newline="")))
    assert [row["sequence"] for row in rows] == ["1", "2", "3", "4", "5", "6"]


def test_a_folder_that_is_not_there_is_told_in_one_sentence_and_nothing_is_recorded(five: None, tmp_path: Path) -> None:
    code, sentence = refused("audit_export", "--output", str(tmp_path / "none" / "audit.csv"))
    assert (code, sentence) == (1, "The export cannot be written: No such file or directory.")
    assert not AuditRecord.objects.filter(event="audit.exported").exists()


def test_a_full_disk_leaves_whole_lines_and_the_number_to_go_on_after(
    five: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(audit_export, "_CHUNK", 2)
    file = tmp_path / "audit.jsonl"
    room = len("".join(run("audit_export").splitlines(keepends=True)[:3])) + 10
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))  # the third record fits, its chunk does not
    try:
        code, sentence = refused("audit_export", "--output", str(file))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (code, sentence) == (
        1,
        "The export cannot be written: File too large. Records up to 2 are there; go on with: audit_export --after 2",
    )
    run("audit_export", "--output", str(file), "--after", "2")
    assert [json.loads(line)["sequence"] for line in file.read_text().splitlines()] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("torn", ['{"sequence":1}\n{"seq', "sequence,at\r\n1,x\r"])
def test_nothing_is_written_behind_a_line_that_was_cut_off(five: None, tmp_path: Path, torn: str) -> None:
    file = tmp_path / "audit.out"
    file.write_bytes(torn.encode())
    assert refused("audit_export", "--output", str(file), "--after", "1") == (
        1, f"{file} ends in the middle of a line: remove that line, and go on after the one before it.",
    )  # fmt: skip
    assert file.read_bytes() == torn.encode()
    assert not AuditRecord.objects.filter(event="audit.exported").exists()


def test_an_export_that_is_stopped_says_how_to_go_on(
    five: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stopped(items: Iterator[AuditRecord], **_: object) -> Iterator[AuditRecord]:
        for entry in items:
            if entry.sequence == 4:
                raise KeyboardInterrupt
            yield entry

    monkeypatch.setattr(audit_export, "_CHUNK", 2)
    monkeypatch.setattr(audit_export, "with_progress", stopped)
    file = tmp_path / "audit.jsonl"
    code, sentence = refused("audit_export", "--output", str(file))
    assert (code, sentence.rpartition(" ")[2]) == (130, "2")
    monkeypatch.undo()
    run("audit_export", "--output", str(file), "--after", "2")
    assert [json.loads(line)["sequence"] for line in file.read_text().splitlines()] == [1, 2, 3, 4, 5, 6]


def test_a_terminal_sees_a_bar_and_a_file_sees_nothing() -> None:
    terminal, file = Terminal(), io.StringIO()
    assert list(with_progress(range(40), total=40, label="Counting", stream=terminal)) == list(range(40))
    assert list(with_progress(range(40), total=40, label="Counting", stream=file)) == list(range(40))
    assert "Counting [##############################] 40/40 100%" in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")
    assert file.getvalue() == ""


def test_a_bar_without_a_total_counts() -> None:
    assert bar(3, total=0, label="Reading") == "Reading 3"
    assert bar(5, total=4, label="Reading").endswith("5/4 100%")


def test_nothing_to_do_draws_nothing() -> None:
    terminal = Terminal()
    assert list(with_progress([], total=0, label="Reading", stream=terminal)) == []
    assert terminal.getvalue() == ""
