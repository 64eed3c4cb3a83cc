"""The pages of webhooks: make, try, change, look at what was sent; nothing of anybody else."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from connections.models import Connection, McpServer
from oauthflow.events import emit
from oauthflow.flows.webhooks.configure import create_webhook
from oauthflow.flows.webhooks.deliver import deliver_due
from oauthflow.models import EventType, Webhook, WebhookDelivery

from .webhook_receivers import Receiver, receiving

pytestmark = pytest.mark.django_db

PAGE = "/connections/webhooks/"
URL = "http://127.0.0.1:9/hook"


@pytest.fixture(autouse=True)
def loopback(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    monkeypatch.setattr("oauthflow.egress.blocking.in_transaction", lambda: False)


@pytest.fixture
def browser(alice: User, client: Client) -> Client:
    client.force_login(alice)
    return client


def text(browser: Client, path: str) -> str:
    answer = browser.get(path)
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    return answer.content.decode()


def made(owner: User | None, actor: User, url: str = URL) -> Webhook:
    return create_webhook(url=url, owner=owner, actor=actor, now=timezone.now(), description="Alerts")[0]


def test_a_person_makes_a_webhook_and_sees_its_secret_once(browser: Client, alice: User) -> None:
    assert PAGE in text(browser, "/connections/")
    answer = browser.post(PAGE, {"url": URL, "description": "Alerts", "events": ["issuer.changed"]})
    (secret,) = re.findall(r"whsec_[\w+/=]+", answer.content.decode())
    webhook = Webhook.objects.get()
    assert (webhook.owner, webhook.events) == (alice, ["issuer.changed"])
    assert webhook.secret_sealed.reveal().reveal() == secret
    assert "no-store" in answer.headers["Cache-Control"]
    for path in (PAGE, f"{PAGE}{webhook.pk}"):
        assert "whsec_" not in text(browser, path)
        assert "Alerts" in text(browser, path)


def test_an_address_inside_is_refused_on_the_page(browser: Client) -> None:
    answer = browser.post(PAGE, {"url": "https://10.0.0.1/"})
    assert "may not be contacted" in answer.content.decode()
    assert not Webhook.objects.exists()


def test_a_delivery_stands_in_the_log_and_can_be_sent_again(browser: Client, alice: User) -> None:
    server = McpServer.objects.create(slug="notes", name="Notes", url="https://notes.example/mcp")
    connection = Connection.objects.create(server=server, user=alice)
    with receiving(Receiver(status=503)) as receiver:
        webhook = made(alice, alice, receiver.url)
        emit(EventType.REAUTHORIZATION_REQUIRED, connection)
        deliver_due()
        page = text(browser, f"{PAGE}{webhook.pk}")
        assert "The receiver answered 503" in page
        assert "Somebody has to reconnect" in page
        assert "Attempt 1" in page
        receiver.status = 200
        assert (
            browser.post(f"{PAGE}{webhook.pk}/deliveries/{WebhookDelivery.objects.get().pk}/again").status_code == 303
        )
        deliver_due()
        assert "The receiver answered 200" in text(browser, f"{PAGE}{webhook.pk}")
        assert len(receiver.got) == 2


def test_a_test_is_one_press_and_its_outcome_is_told(browser: Client, alice: User) -> None:
    with receiving(Receiver(status=204)) as receiver:
        webhook = made(alice, alice, receiver.url)
        assert browser.post(f"{PAGE}{webhook.pk}/test").status_code == 303
        assert "The receiver answered 204" in text(browser, f"{PAGE}{webhook.pk}")
    browser.post(f"{PAGE}{webhook.pk}/test")
    assert "The receiver could not be reached" in text(browser, f"{PAGE}{webhook.pk}")


def test_a_webhook_is_switched_off_changed_and_deleted(browser: Client, alice: User) -> None:
    page = f"{PAGE}{made(alice, alice).pk}"
    browser.post(f"{page}/switch", {"enabled": "false"})
    assert not Webhook.objects.get().enabled
    browser.post(f"{page}/switch", {"enabled": "true"})
    assert Webhook.objects.get().enabled
    browser.post(page, {"url": f"{URL}?new", "description": "Other", "events": []})
    assert (Webhook.objects.get().url, Webhook.objects.get().description) == (f"{URL}?new", "Other")
    assert "may not be contacted" in browser.post(page, {"url": "https://[::1]/"}).content.decode()
    assert Webhook.objects.get().url == f"{URL}?new"
    assert "whsec_" in browser.post(f"{page}/secret").content.decode()
    browser.post(f"{page}/delete")
    assert not Webhook.objects.exists()


def test_a_webhook_that_was_stopped_says_why(browser: Client, alice: User) -> None:
    webhook = made(alice, alice)
    Webhook.objects.update(enabled=False, disabled_because=Webhook.Trouble.GONE)
    assert "answered 410" in text(browser, f"{PAGE}{webhook.pk}")


@pytest.mark.parametrize("action", ["", "/test", "/switch", "/secret", "/delete", f"/deliveries/{UUID(int=7)}/again"])
def test_what_is_somebody_elses_is_not_there(action: str, browser: Client, bob: User) -> None:
    for webhook in (made(bob, bob), made(None, bob)):
        assert browser.post(f"{PAGE}{webhook.pk}{action}").status_code == 404
        assert str(webhook.pk) not in text(browser, PAGE)
    assert set(Webhook.objects.values_list("enabled", "previous_secret_until")) == {(True, None)}


def test_only_who_may_is_offered_the_whole_site(browser: Client, administrator: User) -> None:
    assert "Everybody" not in text(browser, PAGE)
    browser.post(PAGE, {"url": URL, "site_wide": "on"})
    assert Webhook.objects.get().owner is not None
    browser.force_login(administrator)
    assert "Everybody" in text(browser, PAGE)
    browser.post(PAGE, {"url": URL, "site_wide": "on"})
    assert Webhook.objects.filter(owner=None).count() == 1


def test_administrators_see_all_webhooks_and_deliveries_and_no_secret(administrator: User, alice: User) -> None:
    client = Client()
    client.force_login(administrator)
    webhook = made(alice, alice, f"{URL}?key=word-of-alice")
    delivery = WebhookDelivery.objects.create(
        webhook=webhook, event_type="token.refreshed", give_up_at=timezone.now(), created_at=timezone.now()
    )
    for path in (
        "webhook/",
        f"webhook/{webhook.pk}/change/",
        "webhookdelivery/",
        f"webhookdelivery/{delivery.pk}/change/",
    ):
        page = text(client, f"/admin/oauthflow/{path}")
        assert "Alerts" in page
        assert "word-of-alice" not in page
        assert "whsec" not in page


def test_webhooks_go_with_their_owner(administrator: User, alice: User) -> None:
    client = Client()
    client.force_login(administrator)
    WebhookDelivery.objects.create(
        webhook=made(alice, alice), event_type="token.refreshed", give_up_at=timezone.now(), created_at=timezone.now()
    )
    assert client.post(f"/admin/auth/user/{alice.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=alice.pk).exists()
    assert not Webhook.objects.exists()
