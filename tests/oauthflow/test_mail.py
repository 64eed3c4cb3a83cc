"""E-mail tells people what needs them: the right ones, once, with a link on our own site and nothing secret."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from smtplib import SMTPServerDisconnected
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.core.mail import EmailMultiAlternatives
from django.utils import timezone
from pytest_django import Settings

from connections.models import ClientRegistration, Connection, McpServer, TokenSet
from connections.services import require_reauthorization
from oauthflow.events import emit
from oauthflow.flows.mail.digest import send_digests
from oauthflow.flows.webhooks.configure import create_webhook, stop_webhook
from oauthflow.models import AuthorizationRequest, EventType, MailPreference, Notice, Webhook
from oauthflow.models.notice import next_digest_after
from oauthflow.protocol.codes import Code
from oauthflow.tasks import purge_finished_requests, send_mail
from tests.fakes.world import World

pytestmark = pytest.mark.django_db

Mailbox = list[EmailMultiAlternatives]


@pytest.fixture(autouse=True)
def mail_is_on(settings: Settings, db: None) -> None:
    settings.EMAIL_ENABLED = True
    send_mail()  # from here on


@pytest.fixture
def notes() -> McpServer:
    return McpServer.objects.create(slug="notes", name="Team Notes", url="https://notes.example/mcp")


@pytest.fixture
def hers(notes: McpServer, alice: User) -> Connection:
    return Connection.objects.create(server=notes, user=alice, status="active")


@pytest.fixture
def shared(notes: McpServer) -> Connection:
    return Connection.objects.create(server=notes, user=None, status="active")


def ends(connection: Connection) -> None:
    Connection.objects.filter(pk=connection.pk).update(status="active")
    require_reauthorization(connection, reason=Code.INVALID_GRANT)


def may(user: User, *codenames: str) -> None:
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))


def hours_pass(hours: int) -> None:
    for notice in Notice.objects.all():
        later = {"created_at": notice.created_at - timedelta(hours=hours)}
        if notice.next_attempt_at is not None:
            later["next_attempt_at"] = notice.next_attempt_at - timedelta(hours=hours)
        Notice.objects.filter(pk=notice.pk).update(**later)


def to(mailoutbox: Mailbox) -> list[str]:
    return sorted(address for letter in mailoutbox for address in letter.to)


def test_the_owner_is_told_once_with_a_link_to_the_connection(
    hers: Connection, bob: User, mailoutbox: Mailbox, settings: Settings
) -> None:
    for _ in range(3):
        ends(hers)
        send_mail()
    (letter,) = mailoutbox
    assert letter.to == ["alice@example.com"]
    assert letter.subject == "MCP OAuth: Team Notes needs you"
    html = str(letter.alternatives[0][0])
    for text in (str(letter.body), html):
        assert f"{settings.PUBLIC_URL}/connections/{hers.pk}" in text
        assert f"{settings.PUBLIC_URL}/accounts/mail" in text
        assert "Team Notes" in text
        assert "alice" in text
    assert letter.extra_headers["List-Unsubscribe"] == f"<{settings.PUBLIC_URL}/accounts/mail>"
    assert send_mail() == 0


def test_what_ends_again_after_a_repair_or_a_day_is_told_again(hers: Connection, mailoutbox: Mailbox) -> None:
    ends(hers)
    send_mail()
    emit(EventType.AUTHORIZATION_COMPLETED, hers)
    ends(hers)
    send_mail()
    assert len(mailoutbox) == 2
    hours_pass(21)
    ends(hers)
    send_mail()
    assert len(mailoutbox) == 3


def test_several_things_come_in_one_letter(hers: Connection, alice: User, mailoutbox: Mailbox) -> None:
    second = Connection.objects.create(server=hers.server, user=alice, label="work", status="active")
    ends(hers)
    ends(second)
    assert send_mail() == 1
    assert mailoutbox[0].subject == "MCP OAuth: 2 things need you"


def test_what_was_repaired_before_the_letter_is_not_told(hers: Connection, mailoutbox: Mailbox) -> None:
    ends(hers)
    Connection.objects.update(status="active")
    send_mail()
    assert mailoutbox == []
    assert Notice.objects.get().next_attempt_at is None


@pytest.mark.parametrize("event", [one for one in EventType if one.value in (
    "authorization.completed", "authorization.failed", "token.refreshed", "token.refresh_failed", "credentials.revoked",
)])  # fmt: skip
def test_what_needs_nobody_is_not_told(event: EventType, hers: Connection, mailoutbox: Mailbox) -> None:
    emit(event, hers)
    send_mail()
    assert (mailoutbox, Notice.objects.count()) == ([], 0)


def test_those_who_manage_a_shared_connection_and_see_it_are_told(
    shared: Connection, alice: User, bob: User, administrator: User, mailoutbox: Mailbox
) -> None:
    may(bob, "manage_shared_connection")
    ends(shared)
    send_mail()
    assert to(mailoutbox) == ["bob@example.com", "root@example.com"]
    mailoutbox.clear()
    shared.server.users.add(alice, administrator)
    hours_pass(21)
    ends(shared)
    send_mail()
    assert to(mailoutbox) == ["root@example.com"]


def test_a_server_that_moved_is_told_to_owners_and_once_to_who_may_approve(
    notes: McpServer, hers: Connection, bob: User, administrator: User, mailoutbox: Mailbox, settings: Settings
) -> None:
    his = Connection.objects.create(server=notes, user=bob)
    own = Connection.objects.create(server=notes, user=administrator)
    Connection.objects.update(status="issuer_changed")
    for connection in (hers, his, own):
        emit(EventType.ISSUER_CHANGED, connection)
    send_mail()
    assert Notice.objects.filter(user=administrator).count() == 1
    assert to(mailoutbox) == ["alice@example.com", "bob@example.com", "root@example.com"]
    (for_root,) = [str(letter.body) for letter in mailoutbox if letter.to == ["root@example.com"]]
    assert f"{settings.PUBLIC_URL}/admin/connections/mcpserver/{notes.pk}/change/" in for_root


def test_a_client_secret_is_the_concern_of_administrators_alone(
    hers: Connection, administrator: User, mailoutbox: Mailbox
) -> None:
    emit(EventType.CLIENT_SECRET_EXPIRING, hers)
    send_mail()
    assert to(mailoutbox) == ["root@example.com"]


def test_a_sign_in_is_told_only_where_it_still_waits_after_a_while(
    world: World, alice: User, mailoutbox: Mailbox
) -> None:
    connection = world.connection(alice)
    world.come_back(connection, user=alice, now=timezone.now())
    send_mail()
    assert mailoutbox == []
    hours_pass(1)
    send_mail()
    assert to(mailoutbox) == ["alice@example.com"]
    state = AuthorizationRequest.objects.get().state_sealed.reveal().reveal()
    assert state not in str(mailoutbox[0].message())


def test_a_sign_in_that_was_finished_is_not_told(world: World, alice: User, mailoutbox: Mailbox) -> None:
    world.connect(alice, now=timezone.now())
    hours_pass(1)
    send_mail()
    assert mailoutbox == []


def test_the_owner_of_a_webhook_that_was_disabled_is_told(
    alice: User, bob: User, mailoutbox: Mailbox, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oauthflow.egress.resolve.lookup", lambda host: [])
    may(bob, "manage_site_webhooks")
    for owner in (alice, None):
        made, _ = create_webhook(url="https://a.example/x?key=1", owner=owner, actor=alice, now=timezone.now())
        assert stop_webhook(made, because=Webhook.Trouble.GONE, now=timezone.now())
    send_mail()
    assert to(mailoutbox) == ["alice@example.com", "bob@example.com"]
    assert f"{settings.PUBLIC_URL}/connections/webhooks/" in str(mailoutbox[0].body)
    assert "key=1" not in str(mailoutbox[0].message())


def test_people_without_an_address_or_who_are_gone_or_who_want_none_get_none(
    hers: Connection, alice: User, mailoutbox: Mailbox
) -> None:
    for change in ({"email": ""}, {"is_active": False, "email": "a@example.com"}):
        User.objects.filter(pk=alice.pk).update(**change)
        ends(hers)
        send_mail()
    User.objects.filter(pk=alice.pk).update(is_active=True)
    for rhythm in (MailPreference.Rhythm.OFF, MailPreference.Rhythm.WEEKLY):
        MailPreference.choose(alice, rhythm, now=timezone.now())
        ends(hers)
        send_mail()
    assert (mailoutbox, Notice.objects.count()) == ([], 0)


def test_what_waits_is_given_up_when_somebody_chooses_silence(
    hers: Connection, alice: User, mailoutbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(EmailMultiAlternatives, "send", _fails)
        ends(hers)
        send_mail()
    assert Notice.objects.get().next_attempt_at is not None
    MailPreference.choose(alice, MailPreference.Rhythm.OFF, now=timezone.now())
    hours_pass(2)
    send_mail()
    assert mailoutbox == []


def test_a_mail_server_that_is_away_is_tried_again_and_no_address_is_logged(
    hers: Connection, mailoutbox: Mailbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with monkeypatch.context() as patch:
        patch.setattr(EmailMultiAlternatives, "send", _fails)
        ends(hers)
        assert send_mail() == 0
    waiting = Notice.objects.get()
    assert (waiting.attempts, waiting.sent_at) == (1, None)
    assert "mail.not_sent" in caplog.text
    assert "example.com" not in caplog.text
    hours_pass(2)
    assert send_mail() == 1
    assert to(mailoutbox) == ["alice@example.com"]
    assert Notice.objects.get().sent_at is not None


def test_nothing_is_kept_for_later_while_e_mail_is_off(
    hers: Connection, mailoutbox: Mailbox, settings: Settings
) -> None:
    settings.EMAIL_ENABLED = False
    ends(hers)
    send_mail()
    settings.EMAIL_ENABLED = True
    send_mail()
    assert (mailoutbox, Notice.objects.count()) == ([], 0)


def test_the_weekly_digest_lists_what_needs_somebody_and_what_ends(
    notes: McpServer, hers: Connection, shared: Connection, alice: User, bob: User, mailoutbox: Mailbox
) -> None:
    now = timezone.now()
    for label, state in (("gone", "reauth_required"), ("moved", "issuer_changed"), ("fine", "active")):
        Connection.objects.create(server=notes, user=alice, label=label, status=state)
    Connection.objects.create(server=notes, user=bob, label="of-bob", status="reauth_required")
    Connection.objects.filter(pk=shared.pk).update(status="reauth_required", label="everybodys")
    Connection.objects.filter(pk=hers.pk).update(label="ending")
    _tokens(hers, ends_at=now + timedelta(days=3))
    ClientRegistration.objects.create(
        server=notes, issuer="https://as.example", client_id="x", auth_method="none",
        redirect_uri="https://site.example", client_secret_expires_at=now + timedelta(days=20),
    )  # fmt: skip
    MailPreference.choose(alice, MailPreference.Rhythm.WEEKLY, now=now)
    assert send_digests(now=now) == 0
    monday = next_digest_after(now)
    assert send_digests(now=monday - timedelta(seconds=1)) == 0
    MailPreference.objects.update(digest_due_at=now)
    assert (send_digests(now=now), send_digests(now=now)) == (1, 0)
    body = str(mailoutbox[0].body)
    assert {word: word in body for word in ("gone", "moved", "ending", "fine", "of-bob", "everybodys", "secret")} == {
        "gone": True, "moved": True, "ending": True, "fine": False, "of-bob": False, "everybodys": False,
        "secret": False,
    }  # fmt: skip
    may(alice, "manage_shared_connection", "change_mcpserver")
    MailPreference.objects.update(digest_due_at=now)
    send_digests(now=now)
    assert "everybodys" in str(mailoutbox[1].body)
    assert "client secret" in str(mailoutbox[1].body)


def test_an_empty_digest_is_not_sent_and_a_failed_one_is_tried_again(
    hers: Connection, alice: User, mailoutbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    MailPreference.choose(alice, MailPreference.Rhythm.WEEKLY, now=now)
    MailPreference.objects.update(digest_due_at=now)
    assert send_digests(now=now) == 0
    Connection.objects.update(status="reauth_required")
    MailPreference.objects.update(digest_due_at=now)
    with monkeypatch.context() as patch:
        patch.setattr(EmailMultiAlternatives, "send", _fails)
        assert send_digests(now=now) == 0
    assert send_digests(now=now + timedelta(hours=1)) == 1
    assert len(mailoutbox) == 1


@pytest.mark.parametrize(
    ("now", "expected"),
    [("2026-11-23T06:59", "2026-11-23"), ("2026-11-23T07:00", "2026-11-30"), ("2026-11-29T23:00", "2026-11-30")],
)
def test_digests_are_due_on_monday_morning(now: str, expected: str) -> None:
    due = next_digest_after(datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert due.isoformat() == f"{expected}T07:00:00+00:00"


def test_notices_go_with_the_events(hers: Connection) -> None:
    ends(hers)
    send_mail()
    hours_pass(24 * 8)
    purge_finished_requests()
    assert Notice.objects.count() == 0


def _fails(*args: Any, **kwargs: Any) -> int:
    raise SMTPServerDisconnected("alice@example.com")


def _tokens(connection: Connection, *, ends_at: datetime) -> TokenSet:
    return TokenSet.objects.create(
        id=uuid4(), connection=connection, obtained_at=timezone.now(), expires_at=ends_at, issuer="https://as.example",
        token_endpoint="https://as.example/token", client_id="x", auth_method="none",
    )  # fmt: skip
