"""A webhook that was set up with a personal API token is good for no longer than the token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from audit.models import AuditRecord
from connections.api_tokens import revoke_api_token
from connections.models import ApiToken, Connection, McpServer
from oauthflow.events import emit
from oauthflow.flows.deactivate import end_deactivated
from oauthflow.flows.webhooks.configure import change_webhook
from oauthflow.flows.webhooks.deliver import deliver_due
from oauthflow.models import EventType, Notice, Webhook, WebhookDelivery
from oauthflow.models.webhook import SITE_WIDE_PERMISSION
from tests.rest_clients import in_browser, with_token

from .webhook_receivers import Receiver, receiving

pytestmark = pytest.mark.django_db

WEBHOOKS = "/api/v1/webhooks"
URL = "http://127.0.0.1:9/hook"
GOES_ON = (True, "")
STOPPED = (False, "token")


@pytest.fixture(autouse=True)
def loopback(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    settings.EMAIL_ENABLED = True
    monkeypatch.setattr("oauthflow.egress.blocking.in_transaction", lambda: False)


def _made(client: APIClient, **more: Any) -> Webhook:
    answer = client.post(WEBHOOKS, {"url": URL, **more}, format="json")
    assert answer.status_code == 201, answer.content
    return Webhook.objects.get(pk=answer.json()["id"])


def _state(webhook: Webhook) -> tuple[bool, str]:
    deliver_due()
    webhook.refresh_from_db()
    return webhook.enabled, webhook.disabled_because


def _revoke() -> None:
    revoke_api_token(ApiToken.objects.get(), now=timezone.now())


@pytest.mark.parametrize(
    "end",
    [
        _revoke,
        lambda: ApiToken.objects.update(expires_at=timezone.now()),
        lambda: ApiToken.objects.all().delete(),
    ],
    ids=["revoked", "over", "gone"],
)
def test_it_stops_with_the_token_and_the_person_is_told(alice: User, end: Callable[[], object]) -> None:
    by_hand, by_token = _made(in_browser(alice)), _made(with_token(alice))
    assert [_state(one) for one in (by_hand, by_token)] == [GOES_ON, GOES_ON]
    end()
    assert [_state(one) for one in (by_hand, by_token)] == [GOES_ON, STOPPED]
    assert AuditRecord.objects.get(event="webhook.changed", reason="token").details["target"] == str(by_token.pk)
    assert "API token" in Notice.objects.get(user=alice, webhook_id=by_token.pk).message


def test_nothing_is_sent_any_more_from_the_moment_when_the_token_is_revoked(alice: User) -> None:
    server = McpServer.objects.create(slug="notes", name="Notes", url="https://notes.example/mcp")
    connection = Connection.objects.create(server=server, user=alice)
    with receiving(Receiver()) as receiver:
        _made(with_token(alice), url=receiver.url)
        emit(EventType.TOKEN_REFRESHED, connection)
        deliver_due()
        assert len(receiver.got) == 1
        WebhookDelivery.objects.update(status="waiting", next_attempt_at=timezone.now())
        emit(EventType.TOKEN_REFRESHED, connection)
        _revoke()
        deliver_due()
        assert len(receiver.got) == 1


def test_one_of_the_whole_site_stops_when_its_person_leaves(alice: User) -> None:
    app, _, codename = SITE_WIDE_PERMISSION.partition(".")
    alice.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    webhook = _made(with_token(alice), site_wide=True)
    assert _state(webhook) == GOES_ON
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert _state(webhook) == STOPPED


@pytest.mark.parametrize(("is_revoked", "wanted"), [(False, GOES_ON), (True, STOPPED)])
def test_a_person_who_comes_back_finds_it_as_they_find_their_token(
    alice: User, settings: Settings, is_revoked: bool, wanted: tuple[bool, str]
) -> None:
    settings.MCP_OAUTH = {"revoke_deactivated": is_revoked}
    webhook = _made(with_token(alice))
    User.objects.filter(pk=alice.pk).update(is_active=False)
    end_deactivated(now=timezone.now())
    assert _state(webhook) == GOES_ON  # it hears nothing, and there is nobody to tell
    User.objects.filter(pk=alice.pk).update(is_active=True)
    assert _state(webhook) == wanted


def test_what_a_person_says_where_to_send_is_theirs_and_what_a_token_redirects_is_the_tokens(alice: User) -> None:
    enabled, redirected = _made(with_token(alice)), _made(in_browser(alice))
    answer = with_token(alice).patch(f"{WEBHOOKS}/{redirected.pk}", {"url": f"{URL}/elsewhere"}, format="json")
    assert answer.status_code == 200
    ApiToken.objects.update(revoked_at=timezone.now())
    assert [_state(one) for one in (enabled, redirected)] == [STOPPED, STOPPED]
    page = in_browser(alice).get(f"/connections/webhooks/{enabled.pk}").content.decode()
    assert "The API token that set it up has ended." in page
    assert "then it is yours" in page
    change_webhook(enabled, actor=alice, enabled=True)
    assert _state(enabled) == GOES_ON
