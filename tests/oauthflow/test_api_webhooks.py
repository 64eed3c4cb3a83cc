"""Webhooks over REST: what is made, shown, changed, and refused."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from django.contrib.auth.models import Permission, User
from pytest_django import Settings
from rest_framework.test import APIClient

from audit.models import AuditRecord
from oauthflow.flows.webhooks.configure import MOST_OF_ONE_OWNER
from oauthflow.models import Webhook, WebhookDelivery
from tests.rest_clients import in_browser

from .webhook_receivers import Receiver, receiving

pytestmark = pytest.mark.django_db

WEBHOOKS = "/api/v1/webhooks"
URL = "http://127.0.0.1:9/hook?key=1"


@pytest.fixture(autouse=True)
def loopback(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    monkeypatch.setattr("oauthflow.egress.blocking.in_transaction", lambda: False)


@pytest.fixture
def client(alice: User) -> APIClient:
    return in_browser(alice)


def test_a_webhook_is_made_with_a_secret_that_is_shown_once_and_sealed(client: APIClient, alice: User) -> None:
    made = client.post(WEBHOOKS, {"url": URL, "description": "Alerts", "events": ["token.refreshed"]})
    assert made.status_code == 201
    said = made.json()
    assert said["secret"].startswith("whsec_")
    assert (said["owner"], said["enabled"], said["events"]) == ("alice", True, ["token.refreshed"])
    row = Webhook.objects.get()
    assert row.secret_sealed.reveal().reveal() == said["secret"]
    secret = said["secret"].removeprefix("whsec_")
    others = [client.get(WEBHOOKS), client.get(f"{WEBHOOKS}/{row.pk}"), client.patch(f"{WEBHOOKS}/{row.pk}", {})]
    assert [answer.status_code for answer in others] == [200, 200, 200]
    left = [answer.content.decode() for answer in others] + [
        str(Webhook.objects.values()),
        str(AuditRecord.objects.values()),
    ]
    assert not any(secret in text for text in left)
    assert made.headers["Cache-Control"] == "no-store"


def test_a_webhook_is_changed_field_by_field_and_recorded(client: APIClient) -> None:
    address = f"{WEBHOOKS}/{client.post(WEBHOOKS, {'url': URL}).json()['id']}"
    changed = client.patch(address, {"enabled": False, "description": "Later", "events": ["issuer.changed"]}).json()
    assert (changed["enabled"], changed["description"], changed["events"]) == (False, "Later", ["issuer.changed"])
    assert "secret" not in changed
    kinds = [(record.details["kind"], record.details.get("fields")) for record in AuditRecord.objects.all()]
    assert sorted(kinds) == [("changed", ["description", "enabled", "events"]), ("created", None)]
    assert "key=1" not in str(AuditRecord.objects.values())


def test_a_secret_is_changed_and_the_old_one_signs_for_a_while(client: APIClient) -> None:
    made = client.post(WEBHOOKS, {"url": URL}).json()
    changed = client.patch(f"{WEBHOOKS}/{made['id']}", {"rotate_secret": True}).json()
    assert changed["secret"] != made["secret"]
    assert changed["previous_secret_until"] is not None
    row = Webhook.objects.get()
    assert row.previous_secret_sealed.reveal().reveal() == made["secret"]


def test_a_webhook_ends(client: APIClient) -> None:
    address = f"{WEBHOOKS}/{client.post(WEBHOOKS, {'url': URL}).json()['id']}"
    assert client.delete(address).status_code == 204
    assert client.get(address).status_code == 404
    assert client.get(WEBHOOKS).json() == {"results": []}


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.1/", "https://169.254.169.254/latest", "https://[::1]/", "http://hooks.example/", "ftp://a.example/",
     "https://user:word@hooks.example/", "https://localhost/", "javascript:alert(1)", "https://2130706433/"],
)  # fmt: skip
def test_an_address_inside_the_network_is_refused(client: APIClient, url: str, settings: Settings) -> None:
    made = client.post(WEBHOOKS, {"url": URL}).json()
    settings.EGRESS_ALLOW = ()
    for answer in (client.post(WEBHOOKS, {"url": url}), client.patch(f"{WEBHOOKS}/{made['id']}", {"url": url})):
        assert (answer.status_code, answer.json()["error"]) == (422, "egress_blocked")
    assert [row.url for row in Webhook.objects.all()] == [URL]


def test_a_name_that_leads_inside_is_refused(
    client: APIClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EGRESS_ALLOW = ()
    monkeypatch.setattr("oauthflow.egress.resolve.lookup", lambda host: [ip_address("10.1.2.3")])
    answer = client.post(WEBHOOKS, {"url": "https://inside.example/hook"})
    assert (answer.status_code, answer.json()["error"]) == (422, "egress_blocked")
    monkeypatch.setattr("oauthflow.egress.resolve.lookup", lambda host: [])
    assert client.post(WEBHOOKS, {"url": "https://not-yet.example/hook"}).status_code == 201


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "url"), ({"url": URL, "events": ["token.stolen"]}, "events"), ({"url": URL, "owner": "bob"}, "owner"),
     ({"url": URL, "secret": "whsec_x"}, "secret"), ({"url": "x" * 1001}, "url")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_field(client: APIClient, body: dict[str, object], field: str) -> None:
    answer = client.post(WEBHOOKS, body)
    assert answer.status_code == 400
    assert field in answer.json()["fields"]


def test_one_owner_has_no_more_than_twenty(client: APIClient) -> None:
    statuses = [client.post(WEBHOOKS, {"url": URL}).status_code for _ in range(MOST_OF_ONE_OWNER + 1)]
    assert statuses == [201] * MOST_OF_ONE_OWNER + [400]


def test_webhooks_of_the_whole_site_take_the_permission_and_are_shared_by_who_has_it(alice: User, bob: User) -> None:
    assert in_browser(alice).post(WEBHOOKS, {"url": URL, "site_wide": True}).status_code == 403
    for person in (alice, bob):
        person.user_permissions.add(Permission.objects.get(codename="manage_site_webhooks"))
    made = in_browser(alice).post(WEBHOOKS, {"url": URL, "site_wide": True}).json()
    own = in_browser(alice).post(WEBHOOKS, {"url": URL}).json()
    assert (made["owner"], own["owner"]) == (None, "alice")
    assert [one["id"] for one in in_browser(bob).get(WEBHOOKS).json()["results"]] == [made["id"]]


def test_a_test_says_how_it_went_and_stands_in_the_log(client: APIClient) -> None:
    with receiving(Receiver(status=503)) as receiver:
        address = f"{WEBHOOKS}/{client.post(WEBHOOKS, {'url': receiver.url}).json()['id']}"
        said = client.post(f"{address}/test", {}).json()
    assert (said["event_type"], said["status"], said["last_status"]) == ("webhook.test", "failed", 503)
    assert client.get(address).json()["deliveries"] == [said]
    assert said["id"] == WebhookDelivery.objects.get().message_id
