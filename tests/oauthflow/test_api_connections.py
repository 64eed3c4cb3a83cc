"""Connections over REST."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from audit.models import AuditRecord
from connections.models import Connection, McpServer, TokenSet
from connections.models.api_token import ApiScope
from connections.services import shared_connection
from oauthflow.models import AuthorizationRequest
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.requirements import requirement
from tests.rest_clients import in_browser, with_token

pytestmark = pytest.mark.django_db

_URL = "/api/v1/connections"


def _connected(world: World, user: User, **fields: Any) -> Connection:
    connection = world.connect(user, now=timezone.now())
    if fields:
        TokenSet.objects.filter(connection=connection).update(**fields)
    return connection


def _error(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


def test_a_connection_is_made_once_and_found_again(world: World, alice: User) -> None:
    world.server("notes")
    first = in_browser(alice).post(_URL, {"server": "notes"})
    second = in_browser(alice).post(_URL, {"server": "notes"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert {name: first.json()[name] for name in ("server", "user", "label", "status")} == {
        "server": "notes", "user": "alice", "label": "", "status": "pending",
    }  # fmt: skip


def test_labels_keep_several_accounts_of_one_person_apart(world: World, alice: User) -> None:
    world.server("notes")
    for label in ("work", "home"):
        in_browser(alice).post(_URL, {"server": "notes", "label": label})
    assert {row["label"] for row in in_browser(alice).get(_URL).json()["results"]} == {"work", "home"}


def test_a_server_that_is_not_open_to_the_caller_is_as_unknown_as_none(world: World, alice: User, bob: User) -> None:
    world.server("notes").users.add(bob)
    foreign = in_browser(alice).post(_URL, {"server": "notes"})
    unknown = in_browser(alice).post(_URL, {"server": "nothing"})
    assert _error(foreign) == _error(unknown) == (404, "not_found")


@pytest.mark.parametrize("field", ["user", "status", "id", "granted_scopes", "is_staff", "token_expires_at"])
def test_a_field_that_nobody_sets_is_refused_and_nothing_is_made(world: World, alice: User, field: str) -> None:
    world.server("notes")
    answer = in_browser(alice).post(_URL, {"server": "notes", field: "x"})
    assert _error(answer) == (400, "unknown_field")
    assert list(answer.json()["fields"]) == [field]
    assert not Connection.objects.exists()


def test_the_list_holds_ones_own_and_shared_connections_and_nobody_elses(world: World, alice: User, bob: User) -> None:
    own = world.connection(alice)
    world.connection(bob)
    shared = shared_connection(world.server("team", connection_policy=McpServer.ConnectionPolicy.SHARED))
    listed = {row["id"] for row in in_browser(alice).get(_URL).json()["results"]}
    assert listed == {str(own.pk), str(shared.pk)}


def test_no_answer_but_the_release_has_a_token_in_it(world: World, alice: User) -> None:
    world.authorization_server.marker = "marker"
    connection = _connected(world, alice)
    client = with_token(alice)
    for path in ("", f"/{connection.pk}", f"/{connection.pk}/status"):
        assert "marker" not in client.get(f"{_URL}{path}").content.decode()
    assert "marker" not in client.post(f"{_URL}/{connection.pk}/refresh").content.decode()
    assert "marker" not in client.post(f"{_URL}/{connection.pk}/revoke").content.decode()


def test_the_status_of_a_connected_one_has_the_fields_of_the_contract(world: World, alice: User) -> None:
    connection = _connected(world, alice)
    said = in_browser(alice).get(f"{_URL}/{connection.pk}/status").json()
    assert said.pop("token_expires_at") is not None
    assert said == {
        "connection_id": str(connection.pk), "is_oauth_enabled": True, "has_valid_tokens": True,
        "is_access_token_expired": False, "has_refresh_token": True, "requires_reauthorization": False,
        "reauthorization_reason": "", "issuer_url": "https://as.example", "granted_scopes": "",
    }  # fmt: skip


def test_the_status_tells_that_only_a_person_can_help(world: World, alice: User) -> None:
    connection = _connected(world, alice)
    world.authorization_server.refresh_tokens.clear()
    in_browser(alice).post(f"{_URL}/{connection.pk}/refresh")
    said = in_browser(alice).get(f"{_URL}/{connection.pk}/status").json()
    assert (said["requires_reauthorization"], said["reauthorization_reason"]) == (True, "invalid_grant")
    assert said["has_valid_tokens"] is False


def test_an_ended_token_that_can_be_refreshed_still_counts_as_valid(world: World, alice: User) -> None:
    connection = _connected(world, alice, expires_at=timezone.now() - timedelta(hours=1))
    said = in_browser(alice).get(f"{_URL}/{connection.pk}/status").json()
    assert (said["is_access_token_expired"], said["has_valid_tokens"]) == (True, True)


def test_a_released_token_is_the_servers_own_and_its_release_is_recorded(world: World, alice: User) -> None:
    connection = _connected(world, alice)
    answer = with_token(alice, ApiScope.TOKENS_RELEASE).post(f"{_URL}/{connection.pk}/token")
    assert answer.status_code == 200
    assert set(answer.json()) == {"access_token", "token_type", "expires_at", "scope", "resource"}
    assert answer.json()["access_token"] == connection.token_set.access_token_sealed.reveal().reveal()
    assert answer.headers["Cache-Control"] == "no-store"
    kept = AuditRecord.objects.get(event="token.released")
    assert (kept.actor, kept.connection, kept.client) == (str(alice.pk), str(connection.pk), "laptop")
    assert answer.json()["access_token"] not in str(kept.details)


def test_a_token_near_its_end_is_refreshed_before_it_is_released(world: World, alice: User) -> None:
    connection = _connected(world, alice, expires_at=timezone.now() - timedelta(seconds=1))
    before = connection.token_set.access_token_sealed.reveal().reveal()
    answer = with_token(alice, ApiScope.TOKENS_RELEASE).post(f"{_URL}/{connection.pk}/token")
    assert answer.status_code == 200
    assert answer.json()["access_token"] != before
    assert len(world.authorization_server.refresh_requests) == 1


def test_a_session_never_gets_a_token_out(world: World, alice: User) -> None:
    connection = _connected(world, alice)
    answer = in_browser(alice).post(f"{_URL}/{connection.pk}/token")
    assert _error(answer) == (403, "insufficient_scope")
    assert not AuditRecord.objects.filter(event="token.released").exists()


def test_every_scope_but_the_right_one_is_not_enough_for_a_token(world: World, alice: User) -> None:
    connection = _connected(world, alice)
    others = set(ApiScope) - {ApiScope.TOKENS_RELEASE}
    answer = with_token(alice, *others).post(f"{_URL}/{connection.pk}/token")
    assert _error(answer) == (403, "insufficient_scope")


@requirement("E-06")
def test_a_token_that_needs_a_person_is_answered_with_the_link_for_that_person(world: World, alice: User) -> None:
    connection = world.connection(alice)
    answer = with_token(alice, ApiScope.TOKENS_RELEASE).post(f"{_URL}/{connection.pk}/token")
    assert _error(answer) == (409, "authorization_required")
    pending = AuthorizationRequest.objects.get()
    assert answer.json()["authorization_url"].endswith(f"/connect/requests/{pending.pk}")
    assert AuthorizationRequest.objects.with_state(answer.json()["state"]) == pending
    assert answer.json()["expires_at"]
    assert (answer.json()["requires_reauthorization"], answer.json()["retryable"]) == (True, False)


def test_a_shared_connection_that_needs_a_person_gives_no_link_to_who_may_not_connect_it(
    world: World, alice: User
) -> None:
    shared = shared_connection(world.server("team", connection_policy=McpServer.ConnectionPolicy.SHARED))
    answer = with_token(alice).post(f"{_URL}/{shared.pk}/token")
    assert _error(answer) == (409, "authorization_required")
    assert "authorization_url" not in answer.json()
    assert not AuthorizationRequest.objects.exists()


def test_when_the_sign_in_service_is_down_a_token_asks_to_try_again_later(world: World, alice: User) -> None:
    connection = _connected(world, alice, expires_at=timezone.now() - timedelta(seconds=1))
    world.authorization_server.refresh_answer = Answer(503, "", {"Retry-After": "17"})
    answer = with_token(alice).post(f"{_URL}/{connection.pk}/token")
    assert _error(answer) == (503, "temporarily_unavailable")
    assert (answer.headers["Retry-After"], answer.json()["retryable"]) == ("17", True)


def test_who_lost_the_right_to_a_server_gets_no_token_and_can_still_disconnect(
    world: World, alice: User, bob: User
) -> None:
    connection = _connected(world, alice)
    connection.server.users.add(bob)
    client = with_token(alice)
    assert _error(client.post(f"{_URL}/{connection.pk}/token")) == (403, "permission_denied")
    assert _error(client.get(f"{_URL}/{connection.pk}/tools")) == (403, "permission_denied")
    assert client.post(f"{_URL}/{connection.pk}/revoke").status_code == 200


def test_refresh_renews_at_once(world: World, alice: User) -> None:
    connection = _connected(world, alice)
    answer = in_browser(alice).post(f"{_URL}/{connection.pk}/refresh")
    assert (answer.status_code, answer.json()["status"]) == (200, "active")
    assert answer.json()["last_refreshed_at"] is not None
    assert len(world.authorization_server.refresh_requests) == 1


def test_a_refresh_that_is_refused_for_good_gives_the_link_to_reconnect(world: World, alice: User) -> None:
    connection = _connected(world, alice)
    world.authorization_server.refresh_tokens.clear()
    answer = in_browser(alice).post(f"{_URL}/{connection.pk}/refresh")
    assert _error(answer) == (409, "authorization_required")
    assert "/connect/requests/" in answer.json()["authorization_url"]


def test_revoking_forgets_the_tokens_keeps_the_connection_and_records_the_reason(world: World, alice: User) -> None:
    connection = _connected(world, alice)
    answer = in_browser(alice).post(f"{_URL}/{connection.pk}/revoke", {"reason": "laptop lost"})
    assert (answer.status_code, answer.json()["status"]) == (200, "revoked")
    assert (answer.json()["token_expires_at"], answer.json()["granted_scopes"]) == (None, "")
    assert len(world.authorization_server.revocations) == 2
    assert {entry.reason for entry in AuditRecord.objects.filter(event="credentials.revoked")} == {"laptop lost"}
    assert not TokenSet.objects.exists()


def test_deleting_revokes_upstream_and_removes_the_connection(world: World, alice: User) -> None:
    connection = _connected(world, alice)
    answer = in_browser(alice).delete(f"{_URL}/{connection.pk}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert len(world.authorization_server.revocations) == 2
    assert not Connection.objects.exists()
    ended = AuditRecord.objects.filter(event="credentials.revoked").order_by("sequence")
    assert [entry.details.get("target") for entry in ended] == [None, "upstream"]


@pytest.mark.parametrize(("method", "path"), [("post", "/revoke"), ("delete", "")])
def test_a_shared_connection_is_ended_only_by_who_manages_it(world: World, alice: User, method: str, path: str) -> None:
    shared = shared_connection(world.server("team", connection_policy=McpServer.ConnectionPolicy.SHARED))
    url = f"{_URL}/{shared.pk}{path}"
    assert _error(getattr(in_browser(alice), method)(url)) == (403, "permission_denied")
    alice.user_permissions.add(Permission.objects.get(codename="manage_shared_connection"))
    assert getattr(in_browser(User.objects.get(pk=alice.pk)), method)(url).status_code in {200, 204}


def test_an_expired_token_that_a_client_reports_is_refreshed(world: World, alice: User) -> None:
    connection = _connected(world, alice, obtained_at=timezone.now() - timedelta(minutes=5))
    answer = in_browser(alice).post(
        f"{_URL}/{connection.pk}/challenge", {"status": 401, "www_authenticate": 'Bearer error="invalid_token"'}
    )
    assert (answer.status_code, answer.json()) == (200, {"action": "retry"})


@requirement("S-07", "S-08")
def test_a_reported_lack_of_scope_is_answered_with_a_link_that_asks_for_both(world: World, alice: User) -> None:
    connection = world.connect(alice, now=timezone.now(), additional_scopes="read")
    answer = in_browser(alice).post(
        f"{_URL}/{connection.pk}/challenge",
        {"status": 403, "www_authenticate": world.mcp_server.challenge(error="insufficient_scope", scope="write")},
    )
    assert answer.json()["action"] == "authorize"
    asked = AuthorizationRequest.objects.with_state(answer.json()["state"])
    assert answer.json()["authorization_url"].endswith(str(asked.pk))
    assert set(asked.scope.split()) == {"read", "write"}


@pytest.mark.parametrize(
    "body", [{}, {"status": 200}, {"status": "x"}, {"status": 401, "www_authenticate": "x" * 9000}]
)
def test_a_challenge_of_another_form_is_refused(world: World, alice: User, body: dict[str, Any]) -> None:
    connection = world.connection(alice)
    assert _error(in_browser(alice).post(f"{_URL}/{connection.pk}/challenge", body)) == (400, "invalid_request")


@pytest.mark.parametrize("unknown", ["6f1c2f0e-8f1b-4a55-9d8e-0d6d0f1f2a3b", "1", "null", "%00", "a" * 500])
def test_an_id_that_is_no_connection_is_not_found_in_json(alice: User, unknown: str) -> None:
    answer = in_browser(alice).get(f"{_URL}/{unknown}")
    assert _error(answer) == (404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"server": "notes", "server": "other"}',
        b'{"server": NaN}',
        b'{"server": "\\ud800"}',
        b'{"server": "\\u0000"}',
        b'{"server": "' + b"x" * 1024 * 1024 + b'"}',
        b"null",
        b'"notes"',
        b"1e999",
    ],
)
def test_a_body_that_makes_no_sense_is_refused_and_changes_nothing(world: World, alice: User, body: bytes) -> None:
    world.server("notes")
    answer = in_browser(alice).post(_URL, body, content_type="application/json")
    assert _error(answer) == (400, "invalid_request")
    assert not Connection.objects.exists()


def test_a_body_that_is_not_json_is_refused(world: World, alice: User) -> None:
    client = in_browser(alice)
    broken = client.post(_URL, "{", content_type="application/json")
    form = client.post(_URL, "server=notes", content_type="application/x-www-form-urlencoded")
    listed = client.post(_URL, [1], format="json")
    assert [_error(answer) for answer in (broken, form, listed)] == [
        (400, "invalid_request"), (415, "unsupported_media_type"), (400, "invalid_request"),
    ]  # fmt: skip
