"""The counter that every revocation increases is locked after all rows: whoever holds it waits for nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audit.append import appended_last
from audit.events import AuditEvent
from authserver.flows.change_resource import keep_right
from authserver.flows.decide_authorization import allow
from authserver.flows.end_grants import block_client, end_consents
from authserver.flows.end_tokens import advance_epoch, end_families
from authserver.flows.purge_tokens import purge_tokens
from authserver.flows.reuse import ReuseError, end_reused
from authserver.models import Consent, PendingAuthorization, RevocationEpoch, ServiceAccount, TokenFamily
from authserver.protocol.errors import InvalidRequestError
from connections.models import McpServer, TokenSet
from connections.server_changes import delete_server
from connections.services import connection_for
from oauthflow.admin.accounts import _delete
from tests.two_at_once import at_once, on_postgresql, one_behind_the_other

from .asking import ask, gateway_server, registered
from .grants import make_client, make_consent, make_family

pytestmark = [pytest.mark.django_db(transaction=True), on_postgresql]

LOCKS_CONSENTS = r'SELECT .*FROM "authserver_consent".* FOR NO KEY UPDATE'
COUNTS = r'UPDATE "authserver_revocationepoch"'


@pytest.fixture(autouse=True)
def counter(db: None) -> None:
    RevocationEpoch.objects.create()


@pytest.fixture
def notes(db: None) -> McpServer:
    return McpServer.objects.create(name="Notes", slug="notes", url="https://notes.example/mcp", gateway_enabled=True)


def taking_back(consent: Consent) -> Callable[[], object]:
    consents = Consent.objects.filter(pk=consent.pk)
    return lambda: end_consents(consents, reason="revoked_by_user", actor=None, now=timezone.now())


def test_a_deactivation_and_a_consent_that_is_taken_back(alice: User) -> None:
    consent = make_consent(alice, make_client())
    make_family(consent)
    alice.is_active = False

    def deactivate() -> None:
        with transaction.atomic():  # as a page of the administration does
            alice.save()

    at_once(deactivate, taking_back(consent), holding=COUNTS, taking=LOCKS_CONSENTS)

    assert not Consent.objects.standing().exists()


def test_a_server_that_is_deleted_and_a_consent_that_is_taken_back(alice: User, bob: User, notes: McpServer) -> None:
    made = []
    for person in (alice, bob):
        consent = make_consent(person, make_client(person.username))
        Consent.objects.filter(pk=consent.pk).update(connection=connection_for(person, notes, actor=person))
        made.append(consent.connection_id)
        make_family(consent)
    last = Consent.objects.order_by("connection").last()
    assert last is not None

    at_once(
        lambda: delete_server(notes, actor=None, confirmed=True),
        taking_back(last),
        holding=COUNTS,
        taking=LOCKS_CONSENTS,
    )

    assert not Consent.objects.standing().exists()


def test_a_program_that_is_blocked_and_its_right_that_is_changed(alice: User) -> None:
    program = make_client(method="client_secret_basic")
    right = ServiceAccount.objects.create(client=program, user=alice)
    make_family(make_consent(alice, program))

    at_once(
        lambda: block_client(program, actor=None, now=timezone.now()),
        lambda: keep_right(right, actor=None),
        holding=COUNTS,
        taking=r'INSERT INTO "authserver_revocation" ',
    )


def test_a_token_used_twice_and_its_person_who_is_deleted(alice: User) -> None:
    program = make_client()
    family = make_family(make_consent(alice, program))
    ServiceAccount.objects.create(client=make_client("robot"), user=alice)
    reuse = ReuseError("", family_id=family.pk, event=AuditEvent.REFRESH_REUSE_DETECTED, reason="refresh_reused")

    at_once(
        lambda: end_reused(reuse, now=timezone.now()),
        lambda: _delete(User.objects.filter(pk=alice.pk)),
        holding=COUNTS,
    )

    assert not TokenFamily.objects.exists()


def test_whoever_has_allowed_programs_and_connected_is_deactivated_on_a_page(
    alice: User, administrator: User, notes: McpServer, client: Client
) -> None:
    make_family(make_consent(alice, make_client()))
    TokenSet.objects.create(connection=connection_for(alice, notes, actor=alice), obtained_at=timezone.now())
    client.force_login(administrator)
    address = reverse("admin:auth_user_change", args=(alice.pk,))
    said = {"username": "alice", "confirmed": "yes", "date_joined_0": "2026-11-21", "date_joined_1": "12:00:00"}
    assert client.post(address, said).status_code == 302
    alice.refresh_from_db()
    assert not alice.is_active
    assert not Consent.objects.standing().exists()
    assert not TokenSet.objects.exists()


def test_in_a_change_of_several_steps_it_is_increased_once_and_at_the_end() -> None:
    with transaction.atomic(), appended_last():
        advance_epoch()
        advance_epoch()
        assert RevocationEpoch.objects.get().number == 0
    assert RevocationEpoch.objects.get().number == 1


def test_a_question_that_is_allowed_while_its_program_is_blocked(alice: User, client: Client) -> None:
    client.force_login(alice)
    gateway_server()
    ask(client, registered())
    pending = PendingAuthorization.objects.get()

    def allow_it() -> None:
        with pytest.raises(InvalidRequestError):
            allow(pending, now=timezone.now())

    at_once(
        lambda: block_client(pending.client, actor=None, now=timezone.now()),
        allow_it,
        holding=r'UPDATE "authserver_mcpclient" SET "blocked_at"',
    )

    assert not Consent.objects.exists()


def test_answers_that_are_over_are_forgotten_while_families_end(alice: User) -> None:
    consent, now = make_consent(alice, make_client()), timezone.now()
    for number in (3, 2, 1):  # as they lie in the table
        make_family(consent, id=UUID(int=number), rotated_at=now - timedelta(hours=1), successor_sealed="an answer")
    ending = TokenFamily.objects.filter(pk__in=[UUID(int=1), UUID(int=3)])

    one_behind_the_other(
        TokenFamily.objects.filter(pk=UUID(int=2)),
        lambda: purge_tokens(now=now),
        lambda: end_families(ending, reason="revoked_by_user", now=now),
    )

    assert not TokenFamily.objects.exclude(successor_sealed="").exists()


def test_families_that_are_over_are_deleted_while_they_end(alice: User) -> None:
    consent, now = make_consent(alice, make_client()), timezone.now()
    for number in (3, 2, 1):  # as they lie in the table
        make_family(consent, id=UUID(int=number), expires_at=now - timedelta(days=31))
    ending = TokenFamily.objects.filter(pk__in=[UUID(int=1), UUID(int=3)])

    one_behind_the_other(
        TokenFamily.objects.filter(pk=UUID(int=2)),
        lambda: purge_tokens(now=now),
        lambda: end_families(ending, reason="revoked_by_user", now=now),
    )

    assert not TokenFamily.objects.exists()
