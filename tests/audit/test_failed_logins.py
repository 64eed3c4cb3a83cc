"""Failed sign-ins are recorded without what was typed."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.test import Client

from audit.models import AuditRecord


def test_a_wrong_password_is_recorded_for_the_account_that_was_meant(alice: User) -> None:
    Client().post("/accounts/login/", {"login": "alice", "password": "guess-1234"})
    entry = AuditRecord.objects.get(event="login.failed")
    assert (entry.actor, entry.reason) == (str(alice.pk), "")
    assert "guess-1234" not in str(entry.__dict__)


def test_a_name_that_is_nobodys_is_not_kept(alice: User) -> None:
    Client().post("/accounts/login/", {"login": "my secret password", "password": "x"})
    entry = AuditRecord.objects.get(event="login.failed")
    assert (entry.actor, entry.reason) == ("system", "unknown name")
    assert "my secret password" not in str(entry.__dict__)
