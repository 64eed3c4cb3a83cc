"""A webhook that a program set up is good for no longer than the grant with which it did."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from audit.models import AuditRecord
from authserver.flows.end_grants import block_client, end_consents
from authserver.flows.stop_left_webhooks import stop_left_webhooks
from authserver.models import Consent, McpClient, ServiceAccount
from oauthflow.flows.webhooks.configure import change_webhook, create_webhook
from oauthflow.models import Notice, Webhook
from oauthflow.models.webhook import SITE_WIDE_PERMISSION
from tests.requirements import requirement
from tests.rest_clients import in_browser

from .grants import make_client, make_consent, make_family, mint, nothing_remembered

__all__ = ["nothing_remembered"]
API = "http://localhost:8000/api/v1"
URL = "http://127.0.0.1:9/hook"
SCOPE = "connections:read connections:write"


@pytest.fixture(autouse=True)
def loopback(settings: Settings) -> None:
    settings.EGRESS_ALLOW = ("127.0.0.1",)
    settings.EMAIL_ENABLED = True


@pytest.fixture
def program(db: None) -> McpClient:
    return make_client()


def _granted(user: User, client: McpClient) -> str:
    return mint(make_family(make_consent(user, client, scope=SCOPE, resource=API)))


def _sent(method: str, path: str, token: str, body: dict[str, Any]) -> dict[str, Any]:
    ask = getattr(Client(), method)
    answer = ask(path, body, content_type="application/json", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code in (200, 201), answer.content
    said: dict[str, Any] = answer.json()
    return said


def _set_up(user: User, client: McpClient, **more: Any) -> Webhook:
    made = _sent("post", "/api/v1/webhooks", _granted(user, client), {"url": URL, **more})
    return Webhook.objects.get(pk=made["id"])


def _end(user: User) -> None:
    end_consents(Consent.objects.filter(user=user), reason="revoked_by_user", actor=user, now=timezone.now())


def _state(webhook: Webhook) -> tuple[bool, str]:
    webhook.refresh_from_db()
    return webhook.enabled, webhook.disabled_because


@requirement("AS14")
def test_it_stops_with_the_grant_and_the_person_is_told(program: McpClient, alice: User, bob: User) -> None:
    of_alice, of_bob = _set_up(alice, program), _set_up(bob, program)
    by_hand = Webhook.objects.get(pk=in_browser(alice).post("/api/v1/webhooks", {"url": URL}).json()["id"])
    of_another = _set_up(alice, make_client("another"))
    end_consents(Consent.objects.filter(user=alice, client=program), reason="x", actor=alice, now=timezone.now())
    assert _state(of_alice) == (False, "program")
    assert [_state(one) for one in (of_bob, by_hand, of_another)] == [(True, "")] * 3
    stopped = AuditRecord.objects.get(event="webhook.changed", details__kind="disabled")
    assert (stopped.reason, stopped.details["target"]) == ("program", str(of_alice.pk))
    assert Notice.objects.filter(user=alice, webhook_id=of_alice.pk).exists()


def test_it_stays_while_another_grant_of_the_same_kind_stands(program: McpClient, alice: User) -> None:
    webhook = _set_up(alice, program)
    make_consent(alice, program, scope="connections:read", resource=API)
    end_consents(Consent.objects.filter(scope=SCOPE), reason="x", actor=alice, now=timezone.now())
    assert _state(webhook) == (True, "")
    make_consent(alice, program)  # for something else counts for nothing
    end_consents(Consent.objects.filter(resource=API), reason="x", actor=alice, now=timezone.now())
    assert _state(webhook) == (False, "program")


@requirement("AS14")
def test_one_of_the_whole_site_stops_with_the_grant_of_whom_it_was_set_up_for(
    program: McpClient, alice: User, bob: User
) -> None:
    app, _, codename = SITE_WIDE_PERMISSION.partition(".")
    alice.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    webhook = _set_up(alice, program, site_wide=True)
    make_consent(bob, program, scope=SCOPE, resource=API)
    _end(bob)
    assert _state(webhook) == (True, "")
    _end(alice)
    assert _state(webhook) == (False, "program")


def test_those_of_a_client_that_is_blocked_stop_for_everybody(program: McpClient, alice: User, bob: User) -> None:
    webhooks = [_set_up(alice, program), _set_up(bob, program)]
    block_client(program, actor=None, now=timezone.now())
    assert [_state(one) for one in webhooks] == [(False, "program")] * 2


def test_what_a_person_says_where_to_send_is_theirs(program: McpClient, alice: User) -> None:
    webhook = _set_up(alice, program)
    change_webhook(webhook, actor=alice, description="only a name")
    _end(alice)
    assert _state(webhook) == (False, "program")
    assert "then it is yours" in in_browser(alice).get(f"/connections/webhooks/{webhook.pk}").content.decode()
    change_webhook(webhook, actor=alice, enabled=True)
    make_consent(alice, program, scope="connections:write", resource=API)
    _end(alice)
    assert _state(webhook) == (True, "")


def test_what_a_program_redirects_is_the_programs(program: McpClient, alice: User) -> None:
    made = in_browser(alice).post("/api/v1/webhooks", {"url": URL}).json()
    _sent("patch", f"/api/v1/webhooks/{made['id']}", _granted(alice, program), {"url": f"{URL}/elsewhere"})
    _end(alice)
    assert _state(Webhook.objects.get()) == (False, "program")


@pytest.mark.parametrize("gone", ["consent", "client", "person", "account", "account's resource"])
def test_what_was_set_up_while_the_grant_ended_stops_a_little_later(program: McpClient, alice: User, gone: str) -> None:
    now = timezone.now()
    if gone.startswith("account"):
        ServiceAccount.objects.create(client=program, user=alice, resources=[API])
    else:
        make_consent(alice, program, scope=SCOPE, resource=API)
    webhook = create_webhook(url=URL, owner=None, actor=alice, now=now, program=program.client_id)[0]
    by_hand = create_webhook(url=URL, owner=None, actor=alice, now=now)[0]
    assert stop_left_webhooks(now=now) == 0
    match gone:
        case "consent":
            Consent.objects.update(revoked_at=now)
        case "client":
            McpClient.objects.update(blocked_at=now)
        case "person":
            Webhook.objects.update(program_acts_for=None)
        case "account":
            ServiceAccount.objects.all().delete()
        case _:
            ServiceAccount.objects.update(resources=["https://elsewhere.example/mcp"])
    assert stop_left_webhooks(now=now) == 1
    assert [_state(one) for one in (webhook, by_hand)] == [(False, "program"), (True, "")]
