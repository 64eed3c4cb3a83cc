"""Webhooks reach real receivers on loopback, who check them with the stock library; bad receivers cost nobody else."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from unittest.mock import ANY

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from pytest_django import Settings
from standardwebhooks import WebhookVerificationError

from audit.models import AuditRecord
from connections.models import Connection, McpServer
from oauthflow.egress import Answer, Limits
from oauthflow.egress.token_sender import TokenSender
from oauthflow.event_body import event_body
from oauthflow.events import emit
from oauthflow.flows.webhooks.configure import change_webhook, create_webhook, redeliver, rotate_secret
from oauthflow.flows.webhooks.deliver import IN_FLIGHT_PER_HOST, deliver_due, send_test
from oauthflow.flows.webhooks.watch import watch_webhooks
from oauthflow.models import Event, EventType, Webhook, WebhookDelivery
from oauthflow.tasks import purge_finished_requests

from .webhook_receivers import Receiver, receiving

pytestmark = pytest.mark.django_db

Status = WebhookDelivery.Status


@pytest.fixture(autouse=True)
def loopback(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback may be reached, and the tests' own transaction does not count."""
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    monkeypatch.setattr("oauthflow.egress.blocking.in_transaction", lambda: False)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "WEBHOOK", Limits(0, connect_seconds=0.3, total_seconds=0.3))


@pytest.fixture
def notes(alice: User) -> Connection:
    server = McpServer.objects.create(slug="notes", name="Notes", url="https://notes.example/mcp")
    return Connection.objects.create(server=server, user=alice)


def hook(receiver: Receiver, owner: User | None, **fields: object) -> tuple[Webhook, str]:
    actor = owner or User.objects.get_or_create(username="root")[0]
    made, secret = create_webhook(url=receiver.url, owner=owner, actor=actor, now=timezone.now(), **fields)
    return made, secret.reveal()


def happens(connection: Connection, *, times: int = 1) -> list[Event]:
    return [emit(EventType.TOKEN_REFRESHED, connection) for _ in range(times)]


def later(**after: int) -> None:
    """Let time pass for what waits."""
    WebhookDelivery.objects.filter(next_attempt_at__isnull=False).update(next_attempt_at=timezone.now())
    if after:
        WebhookDelivery.objects.update(give_up_at=timezone.now() - timedelta(**after))


def test_a_receiver_verifies_what_it_gets_with_the_stock_library(notes: Connection, alice: User) -> None:
    with receiving(Receiver()) as receiver:
        _, secret = hook(receiver, alice)
        events = happens(notes, times=3)
        assert deliver_due() == 3
        assert sorted(receiver.verified(secret), key=lambda body: int(body["id"])) == [
            json.loads(json.dumps(event_body(event))) for event in events
        ]
        with pytest.raises(WebhookVerificationError):
            receiver.verified("whsec_" + "A" * 43 + "=")
    assert {row.status for row in WebhookDelivery.objects.all()} == {Status.DELIVERED}
    assert sorted(receiver.ids) == sorted(row.message_id for row in WebhookDelivery.objects.all())
    assert len(set(receiver.ids)) == 3


def test_nothing_comes_twice_and_nothing_that_was_before(notes: Connection, alice: User) -> None:
    happens(notes)
    with receiving(Receiver()) as receiver:
        hook(receiver, alice)
        assert deliver_due() == 0
        happens(notes)
        hook(receiver, alice)
        assert (deliver_due(), deliver_due()) == (1, 0)
        assert len(receiver.got) == 1


@pytest.mark.parametrize("status", [500, 404, 302])
def test_a_refusal_is_tried_again_under_the_same_id(status: int, notes: Connection, alice: User) -> None:
    with receiving(Receiver(status=status)) as receiver:
        _, secret = hook(receiver, alice)
        happens(notes)
        deliver_due()
        waiting = WebhookDelivery.objects.get()
        assert (waiting.status, waiting.attempts, waiting.last_status) == (Status.WAITING, 1, status)
        assert timezone.now() - timedelta(seconds=1) < (waiting.next_attempt_at or timezone.now())
        receiver.status = 200
        later()
        deliver_due()
        assert len(receiver.verified(secret)) == 2
    done = WebhookDelivery.objects.get()
    assert (done.status, done.attempts, done.last_status, done.next_attempt_at) == (Status.DELIVERED, 2, 200, None)
    assert receiver.ids == [done.message_id] * 2
    assert Webhook.objects.get().failures == 0


def test_a_redirect_to_the_inside_is_not_followed(notes: Connection, alice: User) -> None:
    with receiving(Receiver()) as inside, receiving(Receiver(status=307)) as receiver:
        receiver.headers["Location"] = inside.url
        hook(receiver, alice)
        happens(notes)
        deliver_due()
        assert inside.got == []
    assert WebhookDelivery.objects.get().last_status == 307


def test_a_receiver_that_asks_to_wait_is_left_alone_that_long(notes: Connection, alice: User) -> None:
    with receiving(Receiver(status=429, headers={"Retry-After": "5000"})) as receiver:
        hook(receiver, alice)
        happens(notes)
        deliver_due()
    waiting = WebhookDelivery.objects.get()
    assert waiting.next_attempt_at is not None
    assert waiting.next_attempt_at - (waiting.last_attempt_at or timezone.now()) == timedelta(seconds=5000)


def test_a_huge_answer_is_not_read(notes: Connection, alice: User) -> None:
    with receiving(Receiver(status=200, body=b"x" * 50_000_000)) as receiver:
        hook(receiver, alice)
        happens(notes)
        deliver_due()
    assert WebhookDelivery.objects.get().status == Status.DELIVERED


@pytest.mark.usefixtures("impatient")
def test_a_receiver_that_never_answers_is_tried_again(notes: Connection, alice: User) -> None:
    with receiving(Receiver(hangs=True)) as receiver:
        hook(receiver, alice)
        happens(notes)
        deliver_due()
    waiting = WebhookDelivery.objects.get()
    assert (waiting.status, waiting.last_error, waiting.last_status) == (Status.WAITING, "timeout", None)


def test_a_receiver_that_never_answers_holds_up_nobody_else(notes: Connection, alice: User) -> None:
    with receiving(Receiver(hangs=True)) as slow, receiving(Receiver()) as quick:
        hook(slow, alice)
        hook(quick, alice)
        happens(notes, times=12)
        answered_slowly = WebhookDelivery.objects.filter(webhook__url=slow.url, last_attempt_at__isnull=False)
        before: list[int] = []

        def go_on() -> bool:
            if not before and len(quick.got) == 12 and slow.at_once == IN_FLIGHT_PER_HOST:
                before.append(answered_slowly.count())
                slow.let_go.set()
            return not before

        deliver_due(go_on=go_on)
        assert before == [0]
        assert slow.most_at_once == IN_FLIGHT_PER_HOST


def test_410_ends_the_webhook(notes: Connection, alice: User) -> None:
    with receiving(Receiver(status=410)) as receiver:
        hook(receiver, alice)
        happens(notes, times=8)
        deliver_due()
        happens(notes)
        deliver_due()
        assert len(receiver.got) <= IN_FLIGHT_PER_HOST
    ended = Webhook.objects.get()
    assert (ended.enabled, ended.disabled_because) == (False, "gone")
    assert {row.status for row in WebhookDelivery.objects.all()} == {Status.FAILED}
    assert AuditRecord.objects.filter(event="webhook.changed", reason="gone").count() == 1


def test_a_day_without_a_delivery_ends_the_webhook(notes: Connection, alice: User) -> None:
    with receiving(Receiver(status=500)) as receiver:
        hook(receiver, alice)
        happens(notes)
        deliver_due()
        assert Webhook.objects.get().enabled
        later(seconds=1)
        deliver_due()
    assert (Webhook.objects.get().enabled, Webhook.objects.get().disabled_because) == (False, "failing")
    assert WebhookDelivery.objects.get().status == Status.FAILED


def test_one_event_that_a_receiver_never_takes_does_not_end_a_webhook_that_works(
    notes: Connection, alice: User
) -> None:
    with receiving(Receiver(status=200)) as receiver:
        hook(receiver, alice)
        happens(notes)
        deliver_due()
        receiver.status = 500
        happens(notes)
        deliver_due()
        later(seconds=1)
        deliver_due()
    assert Webhook.objects.get().enabled
    assert sorted(row.status for row in WebhookDelivery.objects.all()) == [Status.DELIVERED, Status.FAILED]


def test_an_address_that_leads_inside_by_now_is_not_contacted_and_ends_the_webhook(
    notes: Connection, alice: User, settings: Settings
) -> None:
    with receiving(Receiver()) as receiver:
        hook(receiver, alice)
        happens(notes)
        settings.EGRESS_ALLOW = ()
        deliver_due()
        assert receiver.got == []
    assert Webhook.objects.get().disabled_because == "blocked"
    assert WebhookDelivery.objects.get().last_error == "egress_blocked"
    assert AuditRecord.objects.filter(event="egress.blocked").count() == 1


def test_what_is_gone_for_the_owner_meanwhile_is_not_told(notes: Connection, alice: User) -> None:
    server = notes.server
    server.users.add(alice)
    shared = Connection.objects.create(server=server, user=None)
    with receiving(Receiver(status=500)) as receiver:
        hook(receiver, alice)
        happens(shared)
        deliver_due()
        server.users.clear()
        server.users.add(User.objects.create_user("carol"))
        later()
        deliver_due()
        assert len(receiver.got) == 1
    assert WebhookDelivery.objects.get().last_error == "dropped"


def test_people_hear_of_their_own_and_shared_connections_and_the_site_of_all(
    notes: Connection, alice: User, bob: User
) -> None:
    private = McpServer.objects.create(slug="private", name="Private", url="https://private.example/mcp")
    private.users.add(bob)
    of_bob = Connection.objects.create(server=notes.server, user=bob)
    shared, hidden = (Connection.objects.create(server=one, user=None) for one in (notes.server, private))
    with receiving(Receiver()) as hers, receiving(Receiver()) as everything, receiving(Receiver()) as of_nobody:
        hook(hers, alice)
        hook(everything, None)
        gone = User.objects.create_user("gone")
        hook(of_nobody, gone)
        User.objects.filter(pk=gone.pk).update(is_active=False)
        for connection in (notes, of_bob, shared, hidden):
            happens(connection)
        deliver_due()
        heard = {json.loads(body)["connection_id"] for _, body in hers.got}
        assert heard == {str(notes.pk), str(shared.pk)}
        assert len(everything.got) == 4
        assert of_nobody.got == []
    assert set(WebhookDelivery.objects.values_list("status", flat=True)) == {Status.DELIVERED}


def test_only_wanted_events_are_sent(notes: Connection, alice: User) -> None:
    with receiving(Receiver()) as receiver:
        hook(receiver, alice, events=["credentials.revoked"])
        happens(notes)
        emit(EventType.CREDENTIALS_REVOKED, notes)
        deliver_due()
        assert [json.loads(body)["event"] for _, body in receiver.got] == ["credentials.revoked"]


def test_both_secrets_sign_for_a_day_after_a_change(notes: Connection, alice: User) -> None:
    with receiving(Receiver()) as receiver:
        made, old = hook(receiver, alice)
        new = rotate_secret(made, actor=alice, now=timezone.now()).reveal()
        happens(notes)
        deliver_due()
        assert receiver.verified(old) == receiver.verified(new)
        Webhook.objects.update(previous_secret_until=timezone.now())
        receiver.got.clear()
        happens(notes)
        deliver_due()
        assert len(receiver.verified(new)) == 1
        with pytest.raises(WebhookVerificationError):
            receiver.verified(old)


def test_a_test_is_sent_at_once_and_says_nothing_about_the_webhook(alice: User) -> None:
    with receiving(Receiver(status=500)) as receiver:
        made, secret = hook(receiver, alice)
        assert send_test(made, now=timezone.now()).status == Status.FAILED
        receiver.status = 204
        done = send_test(made, now=timezone.now())
        assert (done.status, done.last_status, done.attempts) == (Status.DELIVERED, 204, 1)
        assert receiver.verified(secret)[-1]["event"] == "webhook.test"
    assert (Webhook.objects.get().failures, deliver_due()) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_whoever_waits_for_a_test_keeps_nobody_from_the_database(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bool] = []

    def waiting(sender: TokenSender, *, seconds: float) -> Answer | None:
        kept.append(connection.connection is not None)
        return wait(sender, seconds=seconds)

    wait = TokenSender.next
    monkeypatch.setattr(TokenSender, "next", waiting)
    with receiving(Receiver()) as receiver:
        made, _ = hook(receiver, alice)
        assert send_test(made, now=timezone.now()).status == Status.DELIVERED
    # A file of SQLite takes no place from anybody.
    assert set(kept) == {connection.vendor == "sqlite"}


def test_a_delivery_can_be_repeated_by_hand_under_its_id(notes: Connection, alice: User) -> None:
    with receiving(Receiver()) as receiver:
        hook(receiver, alice)
        happens(notes)
        deliver_due()
        redeliver(WebhookDelivery.objects.get(), now=timezone.now())
        deliver_due()
    assert receiver.ids == [WebhookDelivery.objects.get().message_id] * 2


def test_a_disabled_webhook_gets_nothing_not_even_what_waited(notes: Connection, alice: User) -> None:
    with receiving(Receiver(status=500)) as receiver:
        made, _ = hook(receiver, alice)
        happens(notes)
        deliver_due()
        change_webhook(made, actor=alice, enabled=False)
        happens(notes)
        later()
        deliver_due()
        assert len(receiver.got) == 1


def test_deliveries_go_with_the_events(notes: Connection, alice: User) -> None:
    with receiving(Receiver()) as receiver:
        hook(receiver, alice)
        happens(notes, times=2)
        deliver_due()
    WebhookDelivery.objects.filter(event_cursor=Event.objects.newest_cursor() - 1).update(
        created_at=timezone.now() - timedelta(days=8)
    )
    purge_finished_requests()
    assert [row.event_cursor for row in WebhookDelivery.objects.all()] == [Event.objects.newest_cursor()]


@pytest.mark.django_db(transaction=True)
def test_the_workers_watch_delivers_what_another_thread_commits(notes: Connection, alice: User) -> None:
    stop = threading.Event()
    with receiving(Receiver()) as receiver:
        _, secret = hook(receiver, alice)
        thread = threading.Thread(target=watch_webhooks, args=(stop,))
        thread.start()
        try:
            happens(notes)
            assert receiver.arrived.wait(20)
        finally:
            stop.set()
            thread.join(20)
        assert receiver.verified(secret) == [ANY]
