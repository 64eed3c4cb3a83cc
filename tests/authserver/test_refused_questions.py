"""What a client may not ask a person leaves a record: who was to be asked, by whom, and what was wrong."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit.models import AuditRecord
from authserver.models import McpClient
from tests.requirements import requirement

from .asking import CHALLENGE, FOREIGN, TYPED, address, gateway_server, registered
from .grants import nothing_remembered

__all__ = ["nothing_remembered"]


@pytest.fixture
def browser(alice: User, client: Client) -> Client:
    client.force_login(alice)
    gateway_server()
    return client


def _records() -> list[tuple[str, str, str]]:
    found = AuditRecord.objects.filter(event="authorization.failed")
    return list(found.order_by("pk").values_list("actor", "client", "reason"))


@requirement("X-09", "AS01", "AS05", "AS11")
@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"resource": "https://elsewhere.example/mcp"}, "invalid_target"),
        ({"scope": "everything"}, "invalid_scope"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": [CHALLENGE, CHALLENGE]}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"redirect_uri": "https://evil.example/cb"}, "invalid_request"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
@pytest.mark.parametrize("verified", [False, True])
def test_a_refused_question_is_recorded(
    browser: Client, alice: User, changed: dict[str, Any], code: str, verified: bool
) -> None:
    client = registered(verified=verified)
    for headers in (TYPED, FOREIGN):
        browser.get(address(client, **changed), headers=headers)
    assert _records() == [(str(alice.pk), client.client_id, code)]
    assert "evil" not in str(AuditRecord.objects.values())


def test_before_anybody_has_signed_in_it_is_recorded_without_a_person(db: None) -> None:
    client = registered()
    assert Client().get(address(client, redirect_uri="https://evil.example/cb")).status_code == 400
    assert _records() == [("system", client.client_id, "invalid_request")]


def test_each_person_and_each_mistake_leaves_its_own_record(browser: Client, alice: User, bob: User) -> None:
    client, other = registered(), Client()
    other.force_login(bob)
    for one in (browser, other):
        one.get(address(client, scope="everything"))
    browser.get(address(client, resource="https://elsewhere.example/mcp"))
    assert sorted(_records()) == sorted(
        (str(user.pk), client.client_id, code)
        for user, code in ((alice, "invalid_scope"), (bob, "invalid_scope"), (alice, "invalid_target"))
    )


def test_strangers_and_questions_that_wanted_no_page_leave_none(browser: Client) -> None:
    assert browser.get(address(McpClient(client_id="client_of_nobody"))).status_code == 400
    browser.get(address(registered(), prompt="none"))
    assert _records() == []
