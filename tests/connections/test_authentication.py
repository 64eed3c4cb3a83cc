"""Personal API tokens: who gets in, with which scopes. Z02, Z06."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from connections.api_tokens import issue_api_token, revoke_api_token
from connections.authentication import find_api_token
from connections.models import ApiToken, McpServer
from connections.models.api_token import ApiScope
from connections.permissions import SESSION_SCOPES, granted_scopes
from oauthflow.protocol.errors import InvalidRequestError

SERVERS = "/api/v1/servers"


def _bearer(token: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def _token(user: User, *scopes: str, lifetime: timedelta | None = None) -> str:
    wanted = scopes or (ApiScope.SERVERS_READ,)
    return issue_api_token(user, scopes=wanted, name="program", now=timezone.now(), lifetime=lifetime).token.reveal()


def test_a_token_opens_what_its_scope_names(alice: User) -> None:
    assert _bearer(_token(alice)).get(SERVERS).status_code == 200


def test_only_the_hash_of_a_token_is_kept(alice: User) -> None:
    token = _token(alice)
    row = ApiToken.objects.values().get()
    assert token.startswith("mcp_")
    assert token not in str(row)
    assert len(row["token_hash"]) == 64


def test_a_request_without_credentials_is_challenged_without_an_error_code(db: None) -> None:
    answer = APIClient().get(SERVERS)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api"'


@pytest.mark.parametrize("token", ["mcp_unknown", "mcp_", "mcp_ä", "mcp_a b"])
def test_an_unknown_token_is_challenged_with_invalid_token(db: None, token: str) -> None:
    answer = APIClient().get(SERVERS, headers={"authorization": f"Bearer {token}".encode().decode("latin-1")})
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic bWNwXzpt", "mcp_x", "Bearer eyJhbGciOi.J9.x"])
def test_another_kind_of_credential_does_not_sign_in(db: None, header: str) -> None:
    assert APIClient().get(SERVERS, headers={"authorization": header}).status_code == 401


def test_a_token_that_does_not_count_is_not_saved_by_a_session(alice: User) -> None:
    client = Client()
    client.force_login(alice)
    assert client.get(SERVERS, headers={"authorization": "Bearer mcp_unknown"}).status_code == 401


def test_an_expired_a_revoked_and_an_inactive_users_token_are_refused(alice: User, bob: User) -> None:
    expired = _token(alice, lifetime=timedelta(seconds=1))
    ApiToken.objects.update(expires_at=timezone.now())
    revoked = issue_api_token(alice, scopes=[ApiScope.SERVERS_READ], name="r", now=timezone.now())
    revoke_api_token(revoked.row, now=timezone.now())
    inactive = _token(bob)
    User.objects.filter(pk=bob.pk).update(is_active=False)
    for token in (expired, revoked.token.reveal(), inactive):
        assert _bearer(token).get(SERVERS).status_code == 401


def test_revoking_twice_keeps_the_first_instant(alice: User, now: datetime) -> None:
    row = issue_api_token(alice, scopes=[ApiScope.SERVERS_READ], name="r", now=now).row
    revoke_api_token(row, now=now)
    revoke_api_token(row, now=now + timedelta(hours=1))
    assert row.revoked_at == now


def test_use_is_noted_at_most_once_a_minute(alice: User, now: datetime) -> None:
    token = _token(alice)
    for seconds, noted in ((0, 0), (59, 0), (61, 61), (62, 61)):
        assert find_api_token(token, now=now + timedelta(seconds=seconds)) is not None
        assert ApiToken.objects.get().last_used_at == now + timedelta(seconds=noted)


def test_a_token_in_the_address_is_refused(alice: User) -> None:
    assert APIClient().get(SERVERS, {"access_token": _token(alice)}).status_code == 400


def test_a_missing_scope_is_named_insufficient_scope(alice: User) -> None:
    answer = _bearer(_token(alice, ApiScope.CONNECTIONS_READ)).get(SERVERS)
    assert answer.status_code == 403
    assert answer.json()["error"] == "insufficient_scope"


@pytest.mark.parametrize("scopes", [[], {}, None, "servers:read", {"servers:read": True}, [["servers:read"]]])
def test_an_empty_or_strange_list_of_scopes_gives_no_rights(alice: User, scopes: object) -> None:
    token = _token(alice)
    ApiToken.objects.update(scopes=scopes if scopes is not None else [None])
    assert granted_scopes(ApiToken.objects.get()) == frozenset()
    assert _bearer(token).get(SERVERS).status_code == 403


def test_a_session_has_every_scope_but_the_release_of_tokens() -> None:
    assert set(ApiScope) - SESSION_SCOPES == {ApiScope.TOKENS_RELEASE}
    assert granted_scopes(None) == SESSION_SCOPES


def test_a_session_without_a_csrf_token_changes_nothing(administrator: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(administrator)
    body = {"name": "N", "slug": "n", "url": "https://n.example.com/mcp"}
    assert client.post(SERVERS, body, content_type="application/json").status_code == 403
    assert not McpServer.objects.exists()


def test_a_credential_of_an_unknown_kind_has_no_scopes(administrator: User) -> None:
    client = APIClient()
    client.force_authenticate(administrator)
    assert client.get(SERVERS).status_code == 403


@pytest.mark.parametrize("scopes", [[], ["servers:read", "everything"]])
def test_a_token_without_scopes_or_with_unknown_ones_is_not_made(alice: User, now: datetime, scopes: list[str]) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        issue_api_token(alice, scopes=scopes, name="t", now=now)
    assert refusal.value.code == "invalid_scope"
    assert not ApiToken.objects.exists()


def test_a_token_for_an_inactive_user_or_without_a_lifetime_is_not_made(alice: User, now: datetime) -> None:
    with pytest.raises(InvalidRequestError):
        issue_api_token(alice, scopes=[ApiScope.SERVERS_READ], name="t", now=now, lifetime=timedelta(0))
    alice.is_active = False
    with pytest.raises(InvalidRequestError):
        issue_api_token(alice, scopes=[ApiScope.SERVERS_READ], name="t", now=now)


def test_the_client_fixture_presents_a_token(client_of: Callable[..., APIClient], alice: User) -> None:
    assert client_of(alice, [ApiScope.SERVERS_READ]).get(SERVERS).json()["results"] == []
