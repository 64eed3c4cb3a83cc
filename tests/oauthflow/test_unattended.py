"""Access without a person: client credentials and workload identity, first tokens and renewal."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from joserfc import jwt
from joserfc.jwk import ECKey
from pytest_django import Settings

from audit.models import AuditRecord
from connections.models import Connection, McpServer, TokenSet
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.connect_unattended import connect_unattended
from oauthflow.flows.refresh import refresh_connection
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.flows.revoke import revoke_connection
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.protocol.errors import (
    ClientRefusedError,
    DiscoveryError,
    FlowError,
    GrantRefusedError,
    InvalidRequestError,
    NotConfiguredError,
)
from oauthflow.protocol.retry_after import ServerUnavailableError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.signing_key import SigningKey
from tests.fakes.internet import Answer
from tests.fakes.tokens import platform_jwt
from tests.fakes.world import World

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LATER = timedelta(hours=2)


@pytest.fixture
def robot(world: World) -> McpServer:
    world.authorization_server.grant_types = ["client_credentials"]
    return world.server(grant_type="client_credentials", client_id="robot", client_secret_sealed=Secret("robot-secret"))


@pytest.fixture
def workload(world: World, now: datetime) -> McpServer:
    world.authorization_server.grant_types = [JWT_BEARER]
    return world.server(grant_type="jwt_bearer", assertion_sealed=Secret(platform_jwt(now=now, seconds=100_000)))


def connected(world: World, user: User, *, now: datetime) -> Connection:
    return connect_unattended(world.connection(user), actor=user, now=now)


def last_request(world: World) -> dict[str, str]:
    return world.authorization_server.unattended_requests[-1]


def test_client_credentials_make_a_connection_without_anybody(
    world: World, robot: McpServer, alice: User, now: datetime
) -> None:
    connection = connected(world, alice, now=now)
    assert connection.status == "active"
    assert connection.registration_method == "pre_registered"
    sent = last_request(world)
    assert sent["grant_type"] == "client_credentials"
    assert sent["resource"] == world.mcp_server.url
    assert sent["client"] == "robot"
    assert sent["authorization"].startswith("Basic ")
    assert world.authorization_server.authorization_requests == []
    assert world.authorization_server.registrations == []


def test_the_record_says_who_connected_and_by_which_grant(
    world: World, robot: McpServer, alice: User, now: datetime
) -> None:
    connection = connected(world, alice, now=now)
    events = list(AuditRecord.objects.filter(connection=str(connection.pk)).values_list("event", "actor"))
    assert events == [("authorization.completed", str(alice.pk))]


def test_a_pending_connection_gets_its_first_token_when_it_is_used(
    world: World, robot: McpServer, alice: User, now: datetime
) -> None:
    connection = world.connection(alice)
    token = usable_access_token(connection, now=now)
    assert token.access_token.reveal().startswith("at-")
    connection.refresh_from_db()
    assert connection.status == "active"


def test_renewal_on_use_is_a_new_token_request(world: World, robot: McpServer, alice: User, now: datetime) -> None:
    connection = connected(world, alice, now=now)
    before = usable_access_token(connection, now=now).access_token
    after = usable_access_token(connection, now=now + LATER).access_token
    assert after != before
    assert [sent["grant_type"] for sent in world.authorization_server.unattended_requests] == ["client_credentials"] * 2
    assert world.authorization_server.refresh_requests == []


def test_renewal_in_the_background_is_a_new_token_request(
    world: World, robot: McpServer, alice: User, now: datetime
) -> None:
    world.authorization_server.issues_refresh_token = False
    connection = connected(world, alice, now=now)
    assert refresh_due(now=now + timedelta(minutes=50)) == {"refreshed": 1, "failed": 0}
    token_set = TokenSet.objects.get(connection=connection)
    assert token_set.generation == 2
    assert len(world.authorization_server.unattended_requests) == 2


def test_a_refresh_token_that_comes_all_the_same_is_not_used(
    world: World, robot: McpServer, alice: User, now: datetime
) -> None:
    connection = connected(world, alice, now=now)
    assert TokenSet.objects.get(connection=connection).refresh_token_sealed
    refresh_connection(connection, now=now + LATER, trigger="request")
    assert world.authorization_server.refresh_requests == []


def test_an_entered_private_key_signs_the_clients_assertion(
    world: World, robot: McpServer, alice: User, now: datetime
) -> None:
    key = SigningKey.new()
    robot.client_private_key_sealed, robot.client_secret_sealed = key.as_secret(), ""
    robot.save()
    world.authorization_server.auth_methods = ["private_key_jwt"]
    connected(world, alice, now=now)
    sent = last_request(world)
    assertion = jwt.decode(sent["client_assertion"], ECKey.import_key(key.public_jwk), algorithms=["ES256"])
    assert assertion.claims["aud"] == world.authorization_server.issuer
    assert assertion.claims["iss"] == assertion.claims["sub"] == "robot"
    assert "client_secret" not in sent


def test_a_refused_client_is_not_marked_as_the_end_of_the_grant(
    world: World, robot: McpServer, alice: User, now: datetime
) -> None:
    connection = connected(world, alice, now=now)
    world.authorization_server.unattended_answer = Answer(401, {"error": "invalid_client"})
    with pytest.raises(ClientRefusedError):
        usable_access_token(connection, now=now + LATER)
    connection.refresh_from_db()
    assert (connection.status, connection.reason) == ("degraded", "invalid_client")


def test_what_is_refused_is_not_asked_for_again_until_somebody_connects(
    world: World, workload: McpServer, alice: User, now: datetime
) -> None:
    world.authorization_server.unattended_answer = Answer(400, {"error": "invalid_grant"})
    connection = world.connection(alice)
    for _ in range(3):
        with pytest.raises(GrantRefusedError):
            usable_access_token(connection, now=now)
    refresh_due(now=now + LATER)
    assert [sent["grant_type"] for sent in world.authorization_server.unattended_requests] == [JWT_BEARER]
    connection.refresh_from_db()
    assert (connection.status, connection.reason) == ("reauth_required", "invalid_grant")
    world.authorization_server.unattended_answer = None
    assert connect_unattended(connection, actor=alice, now=now).status == "active"


def test_trouble_of_the_service_costs_a_pause_only(world: World, robot: McpServer, alice: User, now: datetime) -> None:
    world.authorization_server.unattended_answer = Answer(503)
    connection = world.connection(alice)
    with pytest.raises(ServerUnavailableError):
        usable_access_token(connection, now=now)
    connection.refresh_from_db()
    assert connection.status == "pending"
    world.authorization_server.unattended_answer = None
    assert usable_access_token(connection, now=now + LATER).access_token


def test_disconnected_stays_disconnected_until_somebody_connects(
    world: World, robot: McpServer, alice: User, now: datetime
) -> None:
    connection = connected(world, alice, now=now)
    revoke_connection(connection, actor=alice, reason="", now=now)
    asked = len(world.authorization_server.unattended_requests)
    with pytest.raises(GrantRefusedError):
        usable_access_token(connection, now=now)
    assert len(world.authorization_server.unattended_requests) == asked
    assert connect_unattended(connection, actor=alice, now=now).status == "active"


def test_nobody_is_sent_to_a_sign_in(world: World, robot: McpServer, alice: User, now: datetime) -> None:
    with pytest.raises(InvalidRequestError):
        start_authorization(world.connection(alice), user=alice, now=now)
    assert world.internet.calls == []


def test_a_server_with_a_sign_in_is_not_connected_without_one(world: World, alice: User, now: datetime) -> None:
    with pytest.raises(InvalidRequestError):
        connected(world, alice, now=now)
    assert world.internet.calls == []


def test_a_grant_that_the_service_does_not_list_is_not_tried(
    world: World, robot: McpServer, alice: User, now: datetime
) -> None:
    world.authorization_server.grant_types = ["authorization_code"]
    with pytest.raises(DiscoveryError):
        connected(world, alice, now=now)
    assert world.internet.calls_to("/token") == []


def test_a_service_without_anything_for_people_is_good_enough(
    world: World, robot: McpServer, alice: User, now: datetime
) -> None:
    world.authorization_server.metadata_overrides = {"authorization_endpoint": ""}
    world.authorization_server.advertises_pkce = False
    assert connected(world, alice, now=now).status == "active"


def test_but_not_for_a_sign_in(world: World, alice: User, now: datetime) -> None:
    world.authorization_server.grant_types = ["client_credentials"]
    world.authorization_server.metadata_overrides = {"authorization_endpoint": ""}
    with pytest.raises(DiscoveryError):
        start_authorization(world.connection(alice), user=alice, now=now)


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": ""},
        {"client_secret_sealed": ""},
        {"token_endpoint_auth_method": "none"},
        {"registration": "dynamic"},
    ],
    ids=["no id", "no secret", "public", "another way"],
)
def test_client_credentials_without_a_client_that_proves_itself_are_not_sent(
    world: World, robot: McpServer, alice: User, now: datetime, change: dict[str, str]
) -> None:
    for name, value in change.items():
        setattr(robot, name, value)
    robot.save()
    with pytest.raises(FlowError):
        connected(world, alice, now=now)
    assert world.internet.calls_to("/token") == []


def test_tokens_of_another_issuer_or_grant_are_forgotten_when_the_terms_change(
    world: World, alice: User, now: datetime
) -> None:
    world.authorization_server.grant_types = ["authorization_code", "client_credentials"]
    connection = world.connect(alice, now=now)
    server = connection.server
    server.grant_type, server.client_id, server.client_secret_sealed = "client_credentials", "robot", Secret("s")
    server.save()
    connect_unattended(connection, actor=alice, now=now)
    token_set = TokenSet.objects.get(connection=connection)
    assert (token_set.generation, token_set.grant_type, token_set.client_id) == (1, "client_credentials", "robot")


def test_a_host_whose_clock_is_behind_gives_no_empty_token_out(
    world: World, robot: McpServer, alice: User, now: datetime
) -> None:
    world.authorization_server.unattended_answer = Answer(503)
    connection = world.connection(alice)
    for earlier in (timedelta(0), timedelta(minutes=10)):
        with pytest.raises(ServerUnavailableError):
            usable_access_token(connection, now=now - earlier)


# ---- Workload identity


def test_a_platforms_jwt_is_the_grant_and_nothing_else_says_who_asks(
    world: World, workload: McpServer, alice: User, now: datetime
) -> None:
    connection = connected(world, alice, now=now)
    sent = last_request(world)
    assert sent["grant_type"] == JWT_BEARER
    assert sent["assertion"] == platform_jwt(now=now, seconds=100_000)
    assert sent["resource"] == world.mcp_server.url
    assert (sent["client"], sent["authorization"]) == ("", "")
    assert world.authorization_server.registrations == []
    assert (connection.status, connection.registration_method) == ("active", "")


def test_the_jwt_is_read_from_its_file_each_time(
    world: World, workload: McpServer, alice: User, now: datetime, tmp_path: Path, settings: Settings
) -> None:
    file = tmp_path / "token"
    settings.ASSERTION_SOURCES = ((f"file:{file}", "https://as.example"),)
    workload.assertion_source, workload.assertion_sealed = f"file:{file}", ""
    workload.full_clean()
    workload.save()
    file.write_text(platform_jwt(now=now, n=1) + "\n")
    connection = connected(world, alice, now=now)
    file.write_text(platform_jwt(now=now, n=2, seconds=100_000))
    refresh_connection(connection, now=now + LATER, trigger="request")
    sent = [request["assertion"] for request in world.authorization_server.unattended_requests]
    assert sent == [platform_jwt(now=now, n=1), platform_jwt(now=now, n=2, seconds=100_000)]


def test_the_jwt_is_read_from_the_environment(
    world: World, workload: McpServer, alice: User, now: datetime, settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    settings.ASSERTION_SOURCES = (("env:PLATFORM_JWT", "https://as.example"),)
    monkeypatch.setenv("PLATFORM_JWT", platform_jwt(now=now, n=3))
    McpServer.objects.update(assertion_source="env:PLATFORM_JWT")
    assert connected(world, alice, now=now).status == "active"
    assert last_request(world)["assertion"] == platform_jwt(now=now, n=3)


def test_a_source_that_the_operator_did_not_allow_is_not_opened(
    world: World, workload: McpServer, alice: User, now: datetime, tmp_path: Path, settings: Settings
) -> None:
    file = tmp_path / "token"
    file.write_text(platform_jwt(now=now))
    settings.ASSERTION_SOURCES = ((f"file:{tmp_path}", "https://as.example"),)
    workload.assertion_source = f"file:{file}"
    with pytest.raises(ValidationError, match="ASSERTION_SOURCES"):
        workload.full_clean()
    workload.save()
    with pytest.raises(NotConfiguredError, match="ASSERTION_SOURCES"):
        connected(world, alice, now=now)
    assert world.internet.calls_to("/token") == []


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_source_goes_only_where_the_operator_lets_it_go(
    world: World, workload: McpServer, alice: User, now: datetime, settings: Settings,
    monkeypatch: pytest.MonkeyPatch, by_hand: bool,
) -> None:  # fmt: skip
    settings.ASSERTION_SOURCES = (("env:PLATFORM_JWT", "https://login.example"),)
    monkeypatch.setenv("PLATFORM_JWT", platform_jwt(now=now))
    workload.assertion_source = "env:PLATFORM_JWT"
    if by_hand:  # an administrator says who it is, and where tokens are
        workload.issuer, workload.authorization_endpoint = "https://login.example", "https://as.example/authorize"
        workload.token_endpoint = "https://as.example/token"
    workload.save()
    with pytest.raises(NotConfiguredError, match="ASSERTION_SOURCES does not let"):
        connected(world, alice, now=now)
    assert world.internet.calls_to("/token") == []


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_jwt_that_has_ended_is_not_sent(
    world: World, workload: McpServer, alice: User, now: datetime, seconds: int
) -> None:
    workload.assertion_sealed = Secret(platform_jwt(now=now, seconds=seconds))
    workload.save()
    with pytest.raises(NotConfiguredError, match="ended"):
        connected(world, alice, now=now)
    assert world.internet.calls_to("/token") == []


def test_what_is_no_jwt_is_not_sent(
    world: World, workload: McpServer, alice: User, now: datetime, settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    settings.ASSERTION_SOURCES = (("env:DATABASE_PASSWORD", "https://as.example"),)
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    McpServer.objects.update(assertion_source="env:DATABASE_PASSWORD")
    with pytest.raises(NotConfiguredError):
        connected(world, alice, now=now)
    assert world.internet.calls_to("/token") == []


def test_a_background_renewal_without_its_jwt_pauses_and_says_why(
    world: World, workload: McpServer, alice: User, now: datetime
) -> None:
    connection = connected(world, alice, now=now)
    McpServer.objects.update(assertion_sealed="")
    due = now + timedelta(minutes=50)
    assert refresh_due(now=due) == {"refreshed": 0, "failed": 1}
    assert refresh_due(now=due) == {"refreshed": 0, "failed": 0}
    connection.refresh_from_db()
    assert (connection.status, connection.reason) == ("degraded", "grant_not_configured")


PROBLEMS: list[tuple[dict[str, Any], str]] = [
    ({"grant_type": "client_credentials"}, "client_id"),
    ({"grant_type": "client_credentials", "client_id": "x"}, "client_id"),
    ({"grant_type": "client_credentials", "client_id": "x", "token_endpoint_auth_method": "none"},
     "token_endpoint_auth_method"),
    ({"grant_type": "jwt_bearer"}, "assertion_source"),
    ({"grant_type": "jwt_bearer", "assertion_source": "/etc/passwd"}, "assertion_source"),
    ({"grant_type": "token_exchange", "client_id": "x", "client_secret_sealed": Secret("s")}, "identity_provider"),
    ({"client_private_key_sealed": Secret("-----BEGIN PRIVATE KEY-----")}, "client_private_key"),
    ({"assertion_sealed": Secret("no jwt")}, "assertion"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "field"), PROBLEMS)
def test_a_server_that_lacks_what_its_grant_needs_is_not_saved(db: None, fields: dict[str, Any], field: str) -> None:
    server = McpServer(name="Notes", slug="notes", url="https://mcp.example/mcp", **fields)
    with pytest.raises(ValidationError) as caught:
        server.full_clean()
    assert field in caught.value.message_dict
