"""Authorization servers that do not promise `iss`, beside others: a warning, or a refusal. Security note S10."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from connections.models import McpServer, ServerDiscovery
from mcp_oauth_site import settings as site
from oauthflow.flows.check_server import check_server
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.errors import IssNotSupportedError
from tests.fakes.world import World
from tests.rest_clients import with_token

_WARNING = "does not promise to name itself"


@pytest.fixture
def silent(world: World) -> World:
    """The authorization server of `notes` does not promise `iss`."""
    world.authorization_server.promises_iss = False
    return world


@pytest.fixture
def strict(settings: Settings) -> None:
    settings.MCP_OAUTH = {"require_iss": True}


def another(slug: str = "other", *, found: str = "", **fields: Any) -> McpServer:
    """A second server; `found` is the issuer of its last discovery."""
    server = McpServer.objects.create(name=slug, slug=slug, url=f"https://{slug}.example/mcp", **fields)
    if found:
        ServerDiscovery.objects.create(server=server, issuer=found)
    return server


@pytest.mark.parametrize("how", [{"found": "https://evil.example"}, {"issuer": "https://evil.example"}])
def test_a_check_warns_where_another_issuer_is_known(silent: World, now: datetime, how: dict[str, str]) -> None:
    another(**how)
    trace = check_server(silent.server(), user=None, now=now)
    assert trace.ok
    assert _WARNING in trace.verdict
    assert "OAUTH_REQUIRE_ISS" in trace.verdict


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"found": "https://as.example"},
        {"issuer": "https://as.example"},
        {"issuer": "https://as.example/second-spelling", "found": "https://as.example"},
        {"issuer": "https://evil.example", "status": "inactive"},
        {"issuer": "https://evil.example", "auth_type": "bearer"},
    ],
)
def test_without_another_issuer_in_use_there_is_nothing_to_mix_up(
    silent: World, strict: None, alice: User, now: datetime, how: dict[str, str]
) -> None:
    another(**how)
    assert _WARNING not in check_server(silent.server(), user=None, now=now).verdict
    assert silent.connect(alice, now=now).status == "active"


def test_a_servers_own_second_spelling_is_not_another_issuer(silent: World, now: datetime) -> None:
    server = silent.server()
    check_server(server, user=None, now=now)
    McpServer.objects.update(issuer="https://as.example/second-spelling")
    assert _WARNING not in check_server(silent.server(), user=None, now=now).verdict


def test_who_promises_iss_is_used_beside_any_other(world: World, strict: None, alice: User, now: datetime) -> None:
    another(issuer="https://evil.example")
    assert _WARNING not in check_server(world.server(), user=None, now=now).verdict
    assert world.connect(alice, now=now).status == "active"


def test_usually_a_sign_in_goes_on_all_the_same(silent: World, alice: User, now: datetime) -> None:
    another(issuer="https://evil.example")
    assert silent.connect(alice, now=now).status == "active"


def test_in_strict_mode_a_sign_in_is_refused_before_anything_is_registered_or_written(
    silent: World, strict: None, alice: User, now: datetime
) -> None:
    another(issuer="https://evil.example")
    with pytest.raises(IssNotSupportedError) as caught:
        start_authorization(silent.connection(alice), user=alice, now=now)
    assert caught.value.code == "iss_unsupported"
    assert silent.authorization_server.registrations == []
    assert not AuthorizationRequest.objects.exists()


def test_in_strict_mode_a_check_says_that_people_cannot_connect(silent: World, strict: None, now: datetime) -> None:
    another(issuer="https://evil.example")
    trace = check_server(silent.server(), user=None, now=now)
    assert (trace.ok, trace.code) == (False, "iss_unsupported")
    assert "(iss)" in trace.verdict


def test_a_program_is_told_the_code(silent: World, strict: None, alice: User) -> None:
    another(issuer="https://evil.example")
    silent.server()
    answer = with_token(alice).post("/api/v1/oauth/initiate", {"server": "notes"})
    assert (answer.status_code, answer.json()["error"]) == (422, "iss_unsupported")


def test_the_strict_mode_is_off_unless_the_environment_says_so() -> None:
    assert site.MCP_OAUTH["require_iss"] is False
