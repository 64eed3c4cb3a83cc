"""What will end is told ahead, on each occasion once."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from connections.models import ClientRegistration, Connection, McpServer, TokenSet
from oauthflow.flows.warn_ahead import BEFORE_SECRET_ENDS, occasion, warn_ahead
from oauthflow.models import Event, GivenWarning
from oauthflow.protocol.secret import Secret
from oauthflow.tasks import warn_of_ends

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def notes(alice: User) -> Connection:
    server = McpServer.objects.create(slug="notes", name="Notes", url="https://notes.example/mcp")
    return Connection.objects.create(server=server, user=alice, status="active")


@pytest.fixture
def registration(notes: Connection, now: datetime) -> ClientRegistration:
    return ClientRegistration.objects.create(
        server=notes.server, issuer="https://as.example", client_id="x", auth_method="client_secret_basic",
        redirect_uri="https://site.example/callback", client_secret_expires_at=now + 60 * DAY,
    )  # fmt: skip


def tokens(connection: Connection, *, begins: datetime, lives: timedelta | None, renews: bool = False) -> TokenSet:
    row = TokenSet(
        connection=connection, obtained_at=begins, expires_at=None if lives is None else begins + lives,
        issuer="https://as.example", token_endpoint="https://as.example/token", client_id="x", auth_method="none",
    )  # fmt: skip
    if renews:
        row.refresh_token_sealed = Secret("refresh")
    row.save()
    return row


def told_after(now: datetime, *passed: timedelta) -> list[int]:
    """How many warnings came at each of these moments."""
    return [warn_ahead(now=now + after) for after in passed]


def test_access_that_cannot_be_renewed_is_told_a_week_a_day_and_an_hour_ahead(notes: Connection, now: datetime) -> None:
    tokens(notes, begins=now, lives=30 * DAY)
    hour = timedelta(hours=1)
    moments = (22 * DAY, 23 * DAY, 23 * DAY, 25 * DAY, 29 * DAY, 29 * DAY + hour, 30 * DAY - hour, 30 * DAY)
    assert told_after(now, *moments) == [0, 1, 0, 0, 1, 0, 1, 0]
    first = Event.objects.first()
    assert first is not None
    assert (first.event_type, first.requires_user_action) == ("token.expiring_soon", True)
    assert (
        first.message == "The access ends on 21 December 2026 at 12:00 UTC and cannot be renewed. Sign in again before."
    )


def test_the_end_of_renewing_is_told_ahead_where_renewing_does_not_put_it_off(notes: Connection, now: datetime) -> None:
    row = tokens(notes, begins=now + DAY, lives=timedelta(hours=1), renews=True)
    TokenSet.objects.filter(pk=row.pk).update(refresh_ends_at=now + 30 * DAY, refresh_end_known_since=now)
    assert told_after(now, 22 * DAY, 23 * DAY, 24 * DAY, 29 * DAY, 30 * DAY) == [0, 1, 0, 1, 0]
    first = Event.objects.first()
    assert first is not None
    assert (first.event_type, first.requires_user_action) == ("token.expiring_soon", True)
    assert first.message == (
        "The access renews itself until 21 December 2026 at 12:00 UTC and then ends. Sign in again before."
    )


def test_an_end_that_each_renewal_puts_off_is_not_warned_of(notes: Connection, now: datetime) -> None:
    row = tokens(notes, begins=now, lives=timedelta(hours=1), renews=True)
    TokenSet.objects.filter(pk=row.pk).update(refresh_ends_at=now + 30 * DAY, refresh_end_known_since=now)
    assert told_after(now, 29 * DAY) == [0]


def test_a_short_life_is_not_warned_of_from_its_beginning(notes: Connection, now: datetime) -> None:
    tokens(notes, begins=now, lives=timedelta(hours=8))
    assert told_after(now, timedelta(), timedelta(hours=6), timedelta(hours=7)) == [0, 0, 1]
    TokenSet.objects.all().delete()
    tokens(notes, begins=now, lives=timedelta(hours=1))
    assert told_after(now, timedelta(minutes=1), timedelta(minutes=59)) == [0, 0]


@pytest.mark.parametrize("status", ["reauth_required", "revoked", "pending", "issuer_changed"])
def test_what_does_not_work_anyway_is_not_warned_of(status: str, notes: Connection, now: datetime) -> None:
    tokens(notes, begins=now, lives=30 * DAY)
    Connection.objects.update(status=status)
    assert told_after(now, 29 * DAY) == [0]


def test_what_renews_itself_or_has_no_end_is_not_warned_of(notes: Connection, now: datetime) -> None:
    row = tokens(notes, begins=now, lives=30 * DAY, renews=True)
    assert told_after(now, 29 * DAY) == [0]
    TokenSet.objects.update(refresh_token_sealed="", grant_type="client_credentials")
    assert told_after(now, 29 * DAY) == [0]
    row.delete()
    tokens(notes, begins=now, lives=None)
    assert told_after(now, 29 * DAY) == [0]


def test_a_new_sign_in_is_warned_of_anew(notes: Connection, now: datetime) -> None:
    tokens(notes, begins=now, lives=30 * DAY)
    assert told_after(now, 29 * DAY) == [1]
    TokenSet.objects.update(obtained_at=now + 29 * DAY, expires_at=now + 59 * DAY)
    assert told_after(now, 29 * DAY, 58 * DAY) == [0, 1]


def test_a_client_secret_is_told_thirty_seven_and_one_day_ahead_to_each_connection_that_uses_it(
    notes: Connection, registration: ClientRegistration, bob: User, now: datetime
) -> None:
    for connection in (notes, Connection.objects.create(server=notes.server, user=bob, status="active")):
        row = tokens(connection, begins=now, lives=None, renews=True)
        TokenSet.objects.filter(pk=row.pk).update(registration=registration)
    Connection.objects.create(server=notes.server, user=bob, label="other", status="active")
    moments = (29 * DAY, 30 * DAY, 30 * DAY, 40 * DAY, 53 * DAY, 58 * DAY, 59 * DAY, 59 * DAY, 61 * DAY)
    assert told_after(now, *moments) == [0, 2, 0, 0, 2, 0, 2, 0, 0]
    assert {event.event_type for event in Event.objects.all()} == {"client_secret.expiring"}
    assert GivenWarning.objects.count() == 0


def test_an_old_or_unused_registration_is_not_warned_of(
    notes: Connection, registration: ClientRegistration, now: datetime
) -> None:
    assert told_after(now, 59 * DAY) == [0]
    row = tokens(notes, begins=now, lives=None, renews=True)
    TokenSet.objects.filter(pk=row.pk).update(registration=registration)
    ClientRegistration.objects.update(status="superseded")
    assert told_after(now, 59 * DAY) == [0]
    ClientRegistration.objects.update(status="active", client_secret_expires_at=None)
    assert told_after(now, 59 * DAY) == [0]


def test_a_warning_that_is_not_committed_is_given_later(notes: Connection, now: datetime) -> None:
    tokens(notes, begins=now, lives=30 * DAY)
    with transaction.atomic():
        assert warn_ahead(now=now + 29 * DAY) == 1
        transaction.set_rollback(True)
    assert Event.objects.count() == 0
    assert warn_ahead(now=now + 29 * DAY) == 1


@pytest.mark.parametrize(("left", "expected"), [(31, None), (30, 30), (8, 30), (7, 7), (2, 7), (1, 1), (0, 1)])
def test_the_latest_occasion_that_has_come_counts(left: int, expected: int | None, now: datetime) -> None:
    found = occasion(now + left * DAY, BEFORE_SECRET_ENDS, now=now)
    assert found == (None if expected is None else expected * DAY)


def test_the_task_warns_by_the_clock(notes: Connection) -> None:
    assert warn_of_ends() == 0
