"""`grant_type=client_credentials`, for what an administrator made and nobody else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from authserver.models import McpClient, ProtectedResource, ServiceAccount
from authserver.revoked import REVOKED
from authserver.tokens import InvalidTokenError, verify
from connections.models import McpServer
from tests.authserver.grants import RESOURCE, SECRET, make_client, nothing_remembered
from tests.authserver.token_calls import Got, ask_token
from tests.requirements import requirement

__all__ = ["nothing_remembered"]
OTHER = "https://weather.example/mcp"


@pytest.fixture
def account(alice: User) -> ServiceAccount:
    McpServer.objects.create(name="Notes", slug="notes", url="https://notes.example/mcp", gateway_enabled=True)
    ProtectedResource.objects.create(name="Weather", resource=OTHER, scopes={"w:read": "Read", "w:write": "Write"})
    client = make_client(method="client_secret_basic", grant_types=["client_credentials"])
    return ServiceAccount.objects.create(client=client, user=alice, resources=[RESOURCE, OTHER])


def ask(**form: str) -> Got:
    return ask_token({"grant_type": "client_credentials", **form}, basic=("program", SECRET))


@requirement("X-05", "X-06", "AS19")
def test_a_service_account_gets_a_token_of_its_own_and_nothing_to_renew_it(
    account: ServiceAccount, alice: User
) -> None:
    got = ask(resource=RESOURCE)
    assert (got.status, got.members["scope"], "refresh_token" in got.members) == (200, "mcp:access", False)
    token = verify(got.members["access_token"], audience=RESOURCE)
    assert (token.subject, token.client_id, token.user_id) == ("program", "program", alice.pk)


def test_one_resource_needs_no_name(account: ServiceAccount) -> None:
    assert ask().error == "invalid_target"
    ServiceAccount.objects.update(resources=[OTHER])
    assert ask().members["scope"] == "w:read w:write"


def test_scopes_are_those_of_the_resource_and_of_the_client(account: ServiceAccount) -> None:
    assert ask(resource=OTHER, scope="w:read").members["scope"] == "w:read"
    assert ask(resource=OTHER, scope="w:read mcp:access").error == "invalid_scope"
    McpClient.objects.update(scope="w:read")
    assert ask(resource=OTHER).members["scope"] == "w:read"
    assert ask(resource=OTHER, scope="w:write").error == "invalid_scope"
    assert ask(resource=RESOURCE).error == "invalid_scope"


@requirement("X-05", "AS11")
@pytest.mark.parametrize("resource", ["http://localhost:8000/api/v1", f"{RESOURCE}/", "https://elsewhere.example"])
def test_another_resource_is_no_target(account: ServiceAccount, resource: str) -> None:
    assert ask(resource=resource).error == "invalid_target"


def test_a_resource_that_is_gone_is_no_target(account: ServiceAccount) -> None:
    McpServer.objects.update(gateway_enabled=False)
    ProtectedResource.objects.update(is_active=False)
    assert (ask(resource=RESOURCE).error, ask(resource=OTHER).error) == ("invalid_target", "invalid_target")


@requirement("AS16")
@pytest.mark.parametrize(
    "change",
    ["no account", "registered itself", "a metadata document", "public", "grant not registered", "person gone"],
)
def test_nobody_else_may(account: ServiceAccount, change: str) -> None:
    clients = McpClient.objects.all()
    if change == "no account":
        account.delete()
    elif change == "registered itself":
        clients.update(kind="dynamic")
    elif change == "a metadata document":
        clients.update(kind="metadata_document", client_id="https://client.example/client.json")
    elif change == "public":
        clients.update(token_endpoint_auth_method="none")
    elif change == "grant not registered":
        clients.update(grant_types=["authorization_code"])
    else:
        User.objects.update(is_active=False)
    form: dict[str, Any] = {"grant_type": "client_credentials", "resource": RESOURCE}
    name = clients.get().client_id
    got = ask_token({**form, "client_id": name}) if change == "public" else ask_token(form, basic=(name, SECRET))
    assert (got.status, got.error) == (400, "unauthorized_client")


def test_a_change_of_the_account_ends_its_tokens_and_later_ones_are_good(
    account: ServiceAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = ask(resource=RESOURCE).members["access_token"]
    assert verify(token, audience=RESOURCE)
    account.resources = [RESOURCE]
    account.save()
    REVOKED._checked_at = float("-inf")
    with pytest.raises(InvalidTokenError):
        verify(token, audience=RESOURCE)
    later = timezone.now() + timedelta(seconds=3)
    monkeypatch.setattr("authserver.endpoints.token.timezone.now", lambda: later)
    assert verify(ask().members["access_token"], audience=RESOURCE)


def test_tokens_of_an_account_are_good_as_long_as_the_person_it_acts_for_is_active(
    account: ServiceAccount, alice: User
) -> None:
    token = ask(resource=RESOURCE).members["access_token"]
    assert verify(token, audience=RESOURCE)
    alice.is_active = False
    alice.save()
    REVOKED._checked_at = float("-inf")
    with pytest.raises(InvalidTokenError):
        verify(token, audience=RESOURCE)


def test_a_deleted_account_has_no_tokens(account: ServiceAccount) -> None:
    token = ask(resource=RESOURCE).members["access_token"]
    account.delete()
    with pytest.raises(InvalidTokenError):
        verify(token, audience=RESOURCE)
