"""Access without a person, and bound tokens, as programs, people, administrators and operators meet them."""

from __future__ import annotations

import io
import json
from datetime import datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone

from audit.models import AuditRecord
from connections.formats.export import ExportFormat, export_servers
from connections.formats.imports import import_servers
from connections.models import Connection, FlowTrace, McpServer, TokenSet
from connections.models.api_token import ApiScope
from connections.sealed_stores import ModelStore, all_stores
from connections.server_changes import change_server
from oauthflow.client import connect
from oauthflow.flows.check_server import check_server
from oauthflow.models import AuthorizationRequest, Event
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.signing_key import SigningKey
from tests.fakes.internet import Answer, Call
from tests.fakes.proofs import read_proof
from tests.fakes.tokens import platform_jwt
from tests.fakes.world import World
from tests.rest_clients import in_browser, with_token

from .graphql_client import api_token, ask

pytestmark = pytest.mark.django_db

URL = "/api/v1/connections"
MARKER = "MaRk3dQ7x9Zp2Lw5"


@pytest.fixture
def robot(world: World) -> McpServer:
    world.authorization_server.grant_types = ["client_credentials"]
    return world.server(
        grant_type="client_credentials", client_id="robot", client_secret_sealed=Secret(f"secret-{MARKER}")
    )


@pytest.fixture
def bound(world: World) -> World:
    world.mcp_server.scheme, world.authorization_server.binds_tokens = "DPoP", True
    return world


# ---- REST


def test_making_a_connection_over_rest_makes_it_active(world: World, robot: McpServer, alice: User) -> None:
    made = in_browser(alice).post(URL, {"server": "notes"})
    assert (made.status_code, made.json()["status"]) == (201, "active")
    again = in_browser(alice).post(URL, {"server": "notes"})
    assert (again.status_code, again.json()["id"]) == (200, made.json()["id"])
    assert len(world.authorization_server.unattended_requests) == 1


def test_a_connection_that_a_new_target_stopped_is_connected_anew_by_whoever_asks(
    world: World, robot: McpServer, alice: User
) -> None:
    in_browser(alice).post(URL, {"server": "notes"})
    before = TokenSet.objects.get()
    robot.refresh_from_db()
    robot.resource_mode = "omit"
    change_server(robot, actor=None, now=timezone.now(), confirmed=True)

    again = in_browser(alice).post(URL, {"server": "notes"})
    assert (again.status_code, again.json()["status"]) == (200, "active")
    assert (TokenSet.objects.get().resource, TokenSet.objects.get() == before) == ("", False)


def test_the_token_is_released_like_any_other(world: World, robot: McpServer, alice: User) -> None:
    made = in_browser(alice).post(URL, {"server": "notes"}).json()
    released = with_token(alice, ApiScope.TOKENS_RELEASE).post(f"{URL}/{made['id']}/token")
    assert released.json()["token_type"] == "Bearer"
    assert released.json()["access_token"].startswith("at-")


def test_a_refusal_is_told_and_nobody_is_sent_anywhere(world: World, robot: McpServer, alice: User) -> None:
    world.authorization_server.unattended_answer = Answer(400, {"error": "invalid_grant"})
    refused = in_browser(alice).post(URL, {"server": "notes"})
    assert (refused.status_code, refused.json()["error"]) == (502, "invalid_grant")
    connection = Connection.objects.get()
    released = with_token(alice, ApiScope.TOKENS_RELEASE).post(f"{URL}/{connection.pk}/token")
    assert (released.status_code, "authorization_url" in released.json()) == (502, False)
    assert len(world.authorization_server.unattended_requests) == 1
    assert not AuthorizationRequest.objects.exists()


def test_a_shared_connection_is_made_by_those_who_manage_it(
    world: World, robot: McpServer, alice: User, administrator: User
) -> None:
    McpServer.objects.update(connection_policy="shared")
    assert in_browser(alice).post(URL, {"server": "notes"}).status_code == 403
    assert world.authorization_server.unattended_requests == []
    made = in_browser(administrator).post(URL, {"server": "notes"})
    assert made.json()["status"] == "active"
    released = with_token(alice, ApiScope.TOKENS_RELEASE).post(f"{URL}/{made.json()['id']}/token")
    assert released.status_code == 200


def test_a_subject_token_goes_in_and_never_comes_out(world: World, alice: User) -> None:
    _company(world)
    made = in_browser(alice).post(URL, {"server": "notes", "subject_token": f"id-token-{MARKER}"})
    assert made.json()["status"] == "active"
    assert MARKER not in made.content.decode()
    shown = in_browser(alice).get(f"{URL}/{made.json()['id']}").content.decode()
    assert MARKER not in shown
    assert world.authorization_server.unattended_requests[0]["subject_token"] == f"id-token-{MARKER}"


def test_a_subject_token_that_is_of_no_use_is_refused(world: World, robot: McpServer, alice: User) -> None:
    world.server("people")
    for slug in ("notes", "people"):
        refused = in_browser(alice).post(URL, {"server": slug, "subject_token": "x"})
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")


def test_who_is_not_signed_in_at_the_company_gets_the_link_to_it(world: World, alice: User) -> None:
    _company(world)
    answer = in_browser(alice).post(URL, {"server": "notes"})
    assert (answer.status_code, answer.json()["error"]) == (409, "authorization_required")
    assert AuthorizationRequest.objects.get().connection.server.slug == "company"
    assert "/connect/requests/" in answer.json()["authorization_url"]


def test_status_says_that_it_renews_itself(world: World, robot: McpServer, alice: User) -> None:
    pending = world.connection(alice)
    said = in_browser(alice).get(f"{URL}/{pending.pk}/status").json()
    assert (said["requires_reauthorization"], said["has_valid_tokens"]) == (False, False)
    in_browser(alice).post(URL, {"server": "notes"})
    TokenSet.objects.update(expires_at=timezone.now(), refresh_token_sealed="")
    said = in_browser(alice).get(f"{URL}/{pending.pk}/status").json()
    assert (said["has_valid_tokens"], said["has_refresh_token"]) == (True, False)


def test_a_challenge_at_a_server_without_sign_in_ends_in_giving_up(world: World, robot: McpServer, alice: User) -> None:
    made = in_browser(alice).post(URL, {"server": "notes"}).json()
    told = in_browser(alice).post(f"{URL}/{made['id']}/challenge", {"status": 401, "www_authenticate": "Bearer"})
    assert told.json() == {"action": "give_up"}


# ---- Bound tokens over REST


def test_a_bound_token_is_released_as_such_and_its_proof_on_request(bound: World, alice: User) -> None:
    connection = bound.connect(alice, now=timezone.now())
    program = with_token(alice, ApiScope.TOKENS_RELEASE)
    released = program.post(f"{URL}/{connection.pk}/token").json()
    assert released["token_type"] == "DPoP"
    asked = {"method": "POST", "url": f"{bound.mcp_server.url}?a=b", "nonce": "rs-1"}
    proof = program.post(f"{URL}/{connection.pk}/proof", asked).json()["proof"]
    headers = {"DPoP": proof, "Authorization": f"DPoP {released['access_token']}"}
    found = read_proof(Call("POST", asked["url"], headers, ""))
    assert found.claims["nonce"] == "rs-1"
    assert [found.jkt] == [one.jkt for one in bound.authorization_server.proofs]


@pytest.mark.parametrize(
    "url",
    ["https://evil.example/mcp", "https://mcp.example/mcpx", "https://mcp.example/", "http://mcp.example/mcp",
     "https://as.example/token"],
)  # fmt: skip
def test_nothing_is_proved_to_anybody_else(bound: World, alice: User, url: str) -> None:
    connection = bound.connect(alice, now=timezone.now())
    answer = with_token(alice, ApiScope.TOKENS_RELEASE).post(
        f"{URL}/{connection.pk}/proof", {"method": "POST", "url": url}
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_plain_token_has_no_proof(world: World, alice: User) -> None:
    connection = world.connect(alice, now=timezone.now())
    asked = {"method": "POST", "url": world.mcp_server.url}
    assert with_token(alice, ApiScope.TOKENS_RELEASE).post(f"{URL}/{connection.pk}/proof", asked).status_code == 400


def test_a_nonce_challenge_is_a_reason_to_try_again(bound: World, alice: User) -> None:
    connection = bound.connect(alice, now=timezone.now())
    met = {"status": 401, "www_authenticate": 'DPoP error="use_dpop_nonce"'}
    assert in_browser(alice).post(f"{URL}/{connection.pk}/challenge", met).json() == {"action": "retry"}


# ---- Pages, GraphQL, Python, terminal


def test_the_connect_page_connects_with_one_button(world: World, robot: McpServer, alice: User, client: Client) -> None:
    client.force_login(alice)
    page = client.get("/connect/notes").content.decode()
    assert "this site has access of its own" in page
    assert "Your password stays there" not in page
    answer = client.post("/connect/notes", follow=True)
    assert "Nobody has to sign in there" in answer.content.decode()
    assert Connection.objects.get().status == "active"


def test_the_connect_page_leads_to_the_companys_sign_in_and_back(world: World, alice: User, client: Client) -> None:
    _company(world)
    client.force_login(alice)
    answer = client.post("/connect/notes")
    assert answer.headers["Location"].startswith("https://as.example/authorize?")
    request = AuthorizationRequest.objects.get()
    assert (request.connection.server.slug, request.return_to) == ("company", "/connect/notes")


def test_reconnecting_asks_anew(world: World, robot: McpServer, alice: User, client: Client) -> None:
    client.force_login(alice)
    client.post("/connect/notes")
    Connection.objects.update(status="reauth_required", reason="invalid_grant")
    client.post(f"/connections/{Connection.objects.get().pk}/reconnect")
    assert Connection.objects.get().status == "active"
    assert len(world.authorization_server.unattended_requests) == 2


def test_graphql_connects_at_once(world: World, robot: McpServer, alice: User) -> None:
    connection = world.connection(alice)
    query = """mutation($id: ID!) { initiateMCPOAuth(input: {connectionId: $id}) { success authorizationUrl } }"""
    answer = ask(query, token=api_token(alice, *ApiScope.values), id=str(connection.pk))
    assert answer.data["initiateMCPOAuth"] == {"success": True, "authorizationUrl": None}
    connection.refresh_from_db()
    assert connection.status == "active"
    shown = ask("{ mcpServers { edges { node { grantType } } } }", token=api_token(alice, *ApiScope.values))
    assert shown.data["mcpServers"]["edges"][0]["node"]["grantType"] == "client_credentials"


def test_python_code_needs_nothing_but_the_name(world: World, robot: McpServer, alice: User) -> None:
    with connect("notes", user=alice):
        assert Connection.objects.get().status == "active"


def test_the_terminal_connects_at_once(world: World, robot: McpServer, alice: User) -> None:
    output = io.StringIO()
    call_command("connect", "notes", "--user", "alice", stdout=output)
    assert "Connected to Notes" in output.getvalue()
    world.authorization_server.unattended_answer = Answer(401, {"error": "invalid_client"})
    with pytest.raises(CommandError, match="invalid_client"):
        call_command("refresh", str(Connection.objects.get().pk))


# ---- Administrators


def test_the_check_says_how_access_is_obtained_and_asks_for_none(
    world: World, robot: McpServer, administrator: User, now: datetime
) -> None:
    trace = check_server(robot, user=administrator, now=now)
    assert trace.ok
    assert "gives access by client_credentials" in trace.verdict
    assert "robot" in trace.verdict
    assert world.authorization_server.unattended_requests == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"client_secret_sealed": ""}, "client secret or a private key"),
        ({"grant_type": "jwt_bearer"}, "no assertion"),
        ({"grant_type": "jwt_bearer", "assertion_source": "env:NOT_ALLOWED"}, "ASSERTION_SOURCES"),
    ],
)
def test_the_check_names_what_is_missing(
    world: World, robot: McpServer, now: datetime, fields: dict[str, Any], said: str
) -> None:
    world.authorization_server.grant_types.append("urn:ietf:params:oauth:grant-type:jwt-bearer")
    for name, value in fields.items():
        setattr(robot, name, value)
    robot.save()
    trace = check_server(robot, user=None, now=now)
    assert (trace.ok, trace.code) == (False, "grant_not_configured")
    assert said.casefold() in trace.verdict.casefold()


def test_secrets_go_in_over_rest_and_only_their_marks_come_out(administrator: User, now: datetime) -> None:
    key = SigningKey.new()
    body = {
        "name": "Notes", "slug": "notes", "url": "https://mcp.example/mcp", "grant_type": "client_credentials",
        "client_id": "robot", "client_private_key": key.as_secret().reveal(),
        "assertion": platform_jwt(now=now, mark=MARKER), "dpop_bound_access_tokens": "always",
    }  # fmt: skip
    made = in_browser(administrator).post("/api/v1/servers", json.dumps(body), content_type="application/json")
    assert made.status_code == 201, made.content
    shown = made.json()
    assert (shown["client_private_key_set"], shown["assertion_set"]) == (True, True)
    assert (shown["grant_type"], shown["dpop_bound_access_tokens"]) == ("client_credentials", "always")
    assert key.jwk["d"] not in made.content.decode()
    assert body["assertion"] not in made.content.decode()
    assert {"client_private_key", "assertion"} <= set(AuditRecord.objects.get().details["fields"])


def test_a_file_of_ours_carries_the_grant_and_refers_to_its_sign_in_service(
    world: World, administrator: User, now: datetime
) -> None:
    _company(world)
    file = export_servers(McpServer.objects.order_by("-slug"), kind=ExportFormat.YAML)
    assert MARKER not in file
    assert "identity_provider: company" in file
    McpServer.objects.all().delete()
    result = import_servers(file, actor=administrator, now=now)
    assert [problem.reason for problem in result.problems if "client_id" not in problem.reason] == []
    assert McpServer.objects.filter(slug="company").exists()


def test_another_sign_in_service_makes_everybody_start_again(
    world: World, alice: User, administrator: User, now: datetime
) -> None:
    server = _company(world)
    in_browser(alice).post(URL, {"server": "notes", "subject_token": "id-token-of-alice"})
    other = McpServer.objects.create(slug="other", name="Other", url="https://other.example/mcp")
    server.identity_provider = other
    change = change_server(server, actor=administrator, now=now, confirmed=True)
    assert change.stopped_connections == 1
    assert not Connection.objects.get(server=server).subject_token_sealed


def test_key_rotation_knows_every_new_secret() -> None:
    columns = {field.name for store in all_stores() if isinstance(store, ModelStore) for field in store._fields}
    assert columns >= {"dpop_key_sealed", "subject_token_sealed", "assertion_sealed", "client_private_key_sealed"}


def test_no_secret_is_left_in_records_events_traces_or_logs(
    world: World, robot: McpServer, alice: User, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    world.authorization_server.marker = MARKER
    caplog.set_level("DEBUG")
    in_browser(alice).post(URL, {"server": "notes"})
    for answer in (Answer(400, {"error": MARKER}), Answer(200, {"access_token": f"{MARKER}\n"}), Answer(503, MARKER)):
        world.authorization_server.unattended_answer = answer
        in_browser(alice).post(f"{URL}/{Connection.objects.get().pk}/refresh")
    McpServer.objects.update(grant_type="jwt_bearer", assertion_source="")
    robot.refresh_from_db()
    robot.assertion_sealed = Secret(platform_jwt(now=now, mark=MARKER))
    robot.save()
    in_browser(alice).post(URL, {"server": "notes"})
    left = [list(model.objects.values()) for model in (AuditRecord, Event, FlowTrace, Connection)]
    assert MARKER not in f"{left}{caplog.text}"
    assert platform_jwt(now=now, mark=MARKER).split(".")[1] not in f"{left}{caplog.text}"


def _company(world: World) -> McpServer:
    """An enterprise-managed server whose company's sign-in service is the same fake."""
    world.authorization_server.grant_types = [
        "authorization_code", "urn:ietf:params:oauth:grant-type:jwt-bearer",
    ]  # fmt: skip
    company = McpServer.objects.create(
        slug="company", name="Company", url="https://mcp.example/mcp", client_id="site-at-idp",
        client_secret_sealed=Secret(f"idp-{MARKER}"),
    )  # fmt: skip
    return world.server(
        grant_type="token_exchange", identity_provider=company, client_id="site", client_secret_sealed=Secret(MARKER)
    )
