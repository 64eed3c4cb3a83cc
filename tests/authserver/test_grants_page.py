"""My connections: which programs act for a person, and how they are stopped."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from audit.events import AuditEvent
from audit.models import AuditRecord
from authserver.models import Consent
from tests.requirements import requirement

from .asking import gateway_server, registered
from .grants import make_consent, make_family

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(alice: User, client: Client) -> Client:
    client.force_login(alice)
    gateway_server()
    return client


@requirement("AS14")
def test_the_page_lists_each_program_with_where_what_and_since_when(browser: Client, alice: User) -> None:
    consent = make_consent(alice, registered(name="Inbox <sorter>"))
    assert "Never used" in browser.get("/connections/").content.decode()
    Consent.objects.filter(pk=consent.pk).update(last_used_at=timezone.now())
    page = browser.get("/connections/").content.decode()
    for said in ("Inbox &lt;sorter&gt;", "127.0.0.1:33418", "Notes", "Use this server", "Not verified", "Last used"):
        assert said in page, said


@requirement("AS14")
def test_a_person_stops_a_program_and_its_tokens_are_dead(browser: Client, alice: User) -> None:
    consent = make_consent(alice, registered())
    family = make_family(consent)
    browser.post(f"/oauth/grants/{consent.pk}/revoke")
    family.refresh_from_db()
    consent.refresh_from_db()
    assert family.ended_at is not None
    assert (consent.revoked_at is not None, consent.revoked_reason) == (True, "revoked_by_user")
    assert "Notes program" not in browser.get("/connections/").content.decode().partition("Programs that act")[2]
    record = AuditRecord.objects.get(event=AuditEvent.CLIENT_GRANT_REVOKED)
    assert (record.actor, record.client) == (str(alice.pk), "client_notes")
    browser.post(f"/oauth/grants/{consent.pk}/revoke")
    assert AuditRecord.objects.filter(event=AuditEvent.CLIENT_GRANT_REVOKED).count() == 1


@requirement("AS07", "X-04")
@pytest.mark.parametrize("reason", ["refresh_reused", "code_replayed"])
def test_the_page_says_where_two_held_what_a_program_had(browser: Client, alice: User, reason: str) -> None:
    consent, now = make_consent(alice, registered()), timezone.now()
    make_family(consent, issued_at=now - timedelta(days=1))
    assert "in two places" not in browser.get("/connections/").content.decode()
    make_family(consent, issued_at=now - timedelta(hours=1), ended_at=now, ended_reason=reason)
    assert "in two places at once" in browser.get("/connections/").content.decode()
    make_family(consent, issued_at=now)
    assert "in two places" not in browser.get("/connections/").content.decode()


def test_another_persons_grant_is_not_there(browser: Client, bob: User) -> None:
    consent = make_consent(bob, registered())
    assert "Notes program" not in browser.get("/connections/").content.decode()
    unknown = browser.post("/oauth/grants/6e7ad1a7-97a6-4f0a-9a2b-000000000000/revoke")
    foreign = browser.post(f"/oauth/grants/{consent.pk}/revoke")
    assert (unknown.status_code, foreign.status_code) == (404, 404)
    assert Consent.objects.standing().exists()


def test_a_link_stops_nothing(browser: Client, alice: User) -> None:
    consent = make_consent(alice, registered())
    assert browser.get(f"/oauth/grants/{consent.pk}/revoke").status_code == 405
    assert Consent.objects.standing().exists()
