"""The audit record in the admin: everything can be looked at, nothing can be touched."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse

from audit import admin as audit_admin
from audit import guard
from audit.events import AuditEvent
from audit.models import AuditRecord
from audit.record import record

from .recorded import recorded

LIST = "/admin/audit/auditrecord/"


@pytest.fixture
def admin(administrator: User) -> Client:
    client = Client()
    client.force_login(administrator)
    return client


@pytest.fixture
def auditor(alice: User) -> Client:
    alice.is_staff = True
    alice.save()
    alice.user_permissions.add(Permission.objects.get(codename="view_auditrecord"))
    client = Client()
    client.force_login(alice)
    return client


def test_records_are_listed_with_who_did_it(auditor: Client, bob: User) -> None:
    record(AuditEvent.TOKEN_REFRESHED, server="notes")
    record(AuditEvent.SERVER_CHANGED, actor=bob, server="notes")
    record(AuditEvent.SERVER_CHANGED, actor="4711", server="notes")
    page = auditor.get(LIST).content.decode()
    assert all(words in page for words in ("Token refreshed", "the system", ">bob<", "4711 (no such user now)"))


def test_records_can_be_filtered_and_found_by_correlation_id(auditor: Client) -> None:
    entry = recorded(AuditEvent.TOKEN_REFRESHED, server="notes")
    record(AuditEvent.LOGIN_FAILED, server="wiki")
    assert "1 audit record\n" in auditor.get(LIST, {"event__exact": "login.failed"}).content.decode()
    assert f"?q={entry.correlation_id}" in auditor.get(LIST).content.decode()
    assert "0 audit records" in auditor.get(LIST, {"q": "f" * 32}).content.decode()
    assert "0 audit records" in auditor.get(LIST, {"q": entry.mac}).content.decode()


def test_one_record_is_shown_without_the_codes_of_the_chain(auditor: Client) -> None:
    entry = recorded(AuditEvent.TOKEN_REFRESHED, details={"trigger": "background"})
    page = auditor.get(f"{LIST}{entry.pk}/change/").content.decode()
    assert "background" in page
    assert entry.mac not in page


def test_not_even_a_superuser_changes_deletes_or_adds_a_record(admin: Client) -> None:
    entry = recorded(AuditEvent.TOKEN_REFRESHED, reason="why")
    assert admin.post(f"{LIST}{entry.pk}/change/", {"reason": "other"}).status_code == 403
    assert admin.post(f"{LIST}{entry.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin.post(f"{LIST}add/", {}).status_code == 403
    admin.post(LIST, {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"})
    assert AuditRecord.objects.get().reason == "why"


def test_the_chain_is_verified_at_the_press_of_a_button(auditor: Client) -> None:
    for _ in range(3):
        record(AuditEvent.TOKEN_REFRESHED)
    said = auditor.post(reverse("admin:audit_auditrecord_verify"), follow=True).content.decode()
    assert "all 3 records are there" in said
    guard.remove(None, connection.schema_editor())
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_auditrecord SET reason = 'changed' WHERE sequence = 2")
    said = auditor.post(reverse("admin:audit_auditrecord_verify"), follow=True).content.decode()
    assert "broken at 2: its content was changed" in said


def test_of_a_long_chain_a_page_walks_the_newest_part(auditor: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_admin, "_VERIFIED", 3)
    for _ in range(5):
        record(AuditEvent.TOKEN_REFRESHED)
    page = reverse("admin:audit_auditrecord_verify")
    said = auditor.post(page, follow=True).content.decode()
    assert "the newest 3 of 5 records are there, in order and unchanged. manage.py audit_verify walks all" in said
    guard.remove(None, connection.schema_editor())
    for sequence, found in ((1, "The chain holds"), (4, "broken at 4"), (2, "broken at 1")):
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM audit_auditrecord WHERE sequence = %s", [sequence])
        assert found in auditor.post(page, follow=True).content.decode()


def test_an_empty_chain_holds(auditor: Client) -> None:
    said = auditor.post(reverse("admin:audit_auditrecord_verify"), follow=True).content.decode()
    assert "The chain holds" in said


def test_what_the_list_shows_is_exported_and_the_export_recorded(auditor: Client, alice: User) -> None:
    record(AuditEvent.TOKEN_REFRESHED, server="notes", details={"trigger": "background"})
    record(AuditEvent.LOGIN_FAILED, server="=wiki")
    file = auditor.get(reverse("admin:audit_auditrecord_export", args=("csv",)), {"event__exact": "login.failed"})
    lines = file.content.decode().splitlines()
    assert len(lines) == 2
    assert "'=wiki" in lines[1]
    assert file.headers["Content-Disposition"] == 'attachment; filename="audit.csv"'
    file = auditor.get(reverse("admin:audit_auditrecord_export", args=("jsonl",)))
    rows = [json.loads(line) for line in file.content.splitlines()]
    assert [row["event"] for row in rows] == ["audit.exported", "login.failed", "token.refreshed"]
    assert "mac" not in rows[0]
    newest = AuditRecord.objects.latest("sequence")
    assert (newest.event, newest.actor, newest.details) == (
        "audit.exported", str(alice.pk), {"format": "jsonl", "count": 3},
    )  # fmt: skip


def test_an_unknown_format_is_not_found(auditor: Client) -> None:
    assert auditor.get(reverse("admin:audit_auditrecord_export", args=("xml",))).status_code == 404


def test_staff_without_the_permission_see_export_and_verify_nothing(alice: User) -> None:
    alice.is_staff = True
    alice.save()
    client = Client()
    client.force_login(alice)
    assert client.get(LIST).status_code == 403
    assert client.get(reverse("admin:audit_auditrecord_export", args=("csv",))).status_code == 403
    assert client.post(reverse("admin:audit_auditrecord_verify")).status_code == 403


def test_verifying_takes_a_post(auditor: Client) -> None:
    assert auditor.get(reverse("admin:audit_auditrecord_verify")).status_code == 403
