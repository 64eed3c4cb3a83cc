"""The check of a server says in words whether people could connect, and does nothing else."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.contrib.auth.models import User

from audit.models import AuditRecord
from connections.models import ClientRegistration, FlowTrace
from oauthflow.flows.check_server import check_server
from oauthflow.models import AuthorizationRequest
from tests.fakes.authorization_server import FakeAuthorizationServer
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.requirements import requirement


def test_a_good_server_is_described_step_by_step_and_nothing_is_registered(
    world: World, administrator: User, now: datetime
) -> None:
    trace = check_server(world.server(), user=administrator, now=now)

    assert trace.ok
    assert trace.user == administrator
    assert trace.verdict.startswith("People can connect. The sign-in service https://as.example registers this site")
    assert [step["step"] for step in trace.steps] == [
        "server",
        "protected-resource metadata",
        "authorization-server metadata",
    ]
    assert [step["status"] for step in trace.steps] == [401, 200, 200]
    assert world.authorization_server.registrations == []
    assert not ClientRegistration.objects.exists()
    assert not AuthorizationRequest.objects.exists()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"metadata_answer": Answer(404)}, "metadata_discovery_failed"),
        ({"metadata_answer": Answer(503)}, "temporarily_unavailable"),
        ({"metadata_answer": Answer(200, "<html>")}, "upstream_invalid_response"),
        ({"advertises_pkce": False}, "pkce_unsupported"),
        ({"published_issuer": "https://other.example"}, "issuer_mismatch"),
        ({"offers_registration": False}, "registration_not_supported"),
    ],
)
def test_what_is_wrong_is_said_with_its_code(world: World, now: datetime, change: dict[str, object], code: str) -> None:
    for name, value in change.items():
        setattr(world.authorization_server, name, value)

    trace = check_server(world.server(), user=None, now=now)

    assert (trace.ok, trace.code) == (False, code)
    assert trace.verdict


def test_a_client_by_hand_is_reminded_of_its_redirect_uri(world: World, now: datetime) -> None:
    trace = check_server(world.server(client_id="by-hand", profile="keycloak"), user=None, now=now)

    assert "http://localhost:8000/api/v1/oauth/callback" in trace.verdict
    assert "audience needs a mapper" in trace.verdict


def test_an_old_server_and_a_missing_revocation_are_mentioned(world: World, now: datetime) -> None:
    world.mcp_server.publishes_metadata = False

    trace = check_server(world.server(), user=None, now=now)

    assert "2025-03-26" in trace.verdict
    assert "no revocation" in trace.verdict


@requirement("D-00")
def test_a_server_without_sign_in_is_fine_without_being_asked(world: World, now: datetime) -> None:
    assert check_server(world.server(auth_type="none"), user=None, now=now).ok
    assert world.internet.calls == []


@requirement("U-01", "U-03")
def test_an_address_inside_is_refused_and_recorded(world: World, administrator: User, now: datetime) -> None:
    trace = check_server(world.server(url="https://169.254.169.254/mcp"), user=administrator, now=now)

    assert trace.code == "egress_blocked"
    assert world.internet.calls == []
    assert AuditRecord.objects.get().event == "egress.blocked"


def test_a_move_is_noticed_by_a_check(world: World, alice: User, now: datetime) -> None:
    connection = world.connect(alice, now=now)
    world.internet["https://new.example"] = FakeAuthorizationServer(issuer="https://new.example")
    world.mcp_server.issuers = ["https://new.example"]

    for _ in range(2):
        assert check_server(world.server(), user=None, now=now).code == "issuer_changed"
    connection.refresh_from_db()
    assert connection.status == "issuer_changed"
    assert AuditRecord.objects.filter(event="issuer.changed").count() == 1


def test_the_newest_twenty_traces_are_kept(world: World, now: datetime) -> None:
    for _ in range(22):
        last = check_server(world.server(), user=None, now=now)

    assert FlowTrace.objects.count() == 20
    assert FlowTrace.objects.filter(pk=last.pk).exists()
