"""The main job over GraphQL: look, start, poll, call, refresh, give up."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from audit.models import AuditRecord
from connections.models import Connection, TokenSet
from connections.models.api_token import ApiScope
from connections.services import shared_connection
from oauthflow.flows.call_tools import ScopeRequiredError
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.graphql import mutations, queries
from oauthflow.graphql.schema import schema
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.bearer import BearerChallenge
from oauthflow.protocol.errors import AuthorizationRequiredError, ResponseTimeoutError
from tests.fakes.internet import Answer as Served
from tests.fakes.world import World

from .graphql_client import Answer, api_token, ask

pytestmark = pytest.mark.django_db

_STATUS = """query($id: ID!) { getMCPOAuthConnectionStatus(connectionId: $id) {
    connectionId isOAuthEnabled hasValidTokens isAccessTokenExpired tokenExpiresAt hasRefreshToken
    requiresReauthorization reauthorizationReason issuerUrl grantedScopes } }"""
_FLOW = """query($state: String!) { getMCPOAuthStatus(input: {stateParameter: $state}) {
    success errorMessage status connectionId initiatedAt completedAt authErrorCode authErrorDescription
    isRetryable } }"""
_INITIATE = """mutation($id: ID!, $scopes: String, $to: String) {
    initiateMCPOAuth(input: {connectionId: $id, additionalScopes: $scopes, returnTo: $to}) {
    success errorMessage authorizationUrl stateParameter expiresAt usedDynamicRegistration errorCode isRetryable } }"""
_REVOKE = """mutation($id: ID!, $reason: String) { revokeMCPOAuth(input: {connectionId: $id, reason: $reason}) {
    success errorMessage errorCode connectionId } }"""
_REFRESH = """mutation($id: ID!) { refreshMCPOAuthToken(input: {connectionId: $id}) {
    success errorMessage errorCode expiresAt requiresReauthorization } }"""
_NEEDS = "requiresOAuth authorizationUrl stateParameter requiresReauthorization reauthorizationReason"
_SYNC = f"""mutation($id: ID!) {{ syncMCPTools(input: {{connectionId: $id}}) {{
    success errorMessage errorCode toolCount result {_NEEDS} }} }}"""
_EXECUTE = f"""mutation($id: ID!, $name: String!, $args: JSON) {{
    executeMCPTool(input: {{connectionId: $id, toolName: $name, inputArgs: $args}}) {{
    success errorMessage errorCode isRetryable result {_NEEDS} }} }}"""


@pytest.fixture
def token(alice: User) -> str:
    return api_token(alice, *ApiScope.values)


def _only(answer: Answer) -> dict[str, Any]:
    assert (answer.status, answer.codes) == (200, [])
    (payload,) = answer.data.values()
    found: dict[str, Any] = payload
    return found


def _answers(monkeypatch: pytest.MonkeyPatch, result: Any) -> list[dict[str, Any]]:
    """Put something in place of the MCP SDK; it returns or raises `result` and remembers what it was asked."""
    asked: list[dict[str, Any]] = []

    def stand_in(connection: Connection, **arguments: Any) -> Any:
        asked.append(arguments)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(mutations, "call_tool", stand_in)
    monkeypatch.setattr(mutations, "list_tools", stand_in)
    return asked


def test_a_connection_tells_how_it_stands(world: World, alice: User, token: str) -> None:
    connection = world.connect(alice, now=timezone.now())
    said = _only(ask(_STATUS, token=token, id=str(connection.pk)))
    assert said.pop("tokenExpiresAt")
    assert said == {
        "connectionId": str(connection.pk),
        "isOAuthEnabled": True,
        "hasValidTokens": True,
        "isAccessTokenExpired": False,
        "hasRefreshToken": True,
        "requiresReauthorization": False,
        "reauthorizationReason": "",
        "issuerUrl": "https://as.example",
        "grantedScopes": "",
    }


def test_a_flow_goes_from_start_to_completed(world: World, alice: User, token: str) -> None:
    connection = world.connection(alice)
    started = _only(ask(_INITIATE, token=token, id=str(connection.pk)))
    pending = AuthorizationRequest.objects.get()
    assert started["success"] is True
    assert started["authorizationUrl"] == f"http://localhost:8000/connect/requests/{pending.pk}"
    assert started["usedDynamicRegistration"] is True
    waiting = _only(ask(_FLOW, token=token, state=started["stateParameter"]))
    assert (waiting["success"], waiting["status"], waiting["connectionId"]) == (True, "PENDING", str(connection.pk))
    AuthorizationRequest.objects.update(status="completed", completed_at=timezone.now())
    done = _only(ask(_FLOW, token=token, state=started["stateParameter"]))
    assert (done["status"], done["authErrorCode"], done["isRetryable"]) == ("COMPLETED", None, None)


def test_a_flow_that_failed_or_ran_out_says_why_and_whether_to_retry(world: World, alice: User, token: str) -> None:
    started = start_authorization(world.connection(alice), user=alice, now=timezone.now())
    AuthorizationRequest.objects.update(status="failed", error_code="access_denied")
    failed = _only(ask(_FLOW, token=token, state=started.state.reveal()))
    assert (failed["status"], failed["authErrorCode"], failed["isRetryable"]) == ("FAILED", "access_denied", True)
    AuthorizationRequest.objects.update(
        status="pending", error_code="", expires_at=timezone.now() - timedelta(seconds=1)
    )
    late = _only(ask(_FLOW, token=token, state=started.state.reveal()))
    assert (late["status"], late["authErrorCode"]) == ("EXPIRED", "authorization_timeout")


def test_a_start_that_makes_no_sense_is_refused_in_the_payload(world: World, alice: User, token: str) -> None:
    connection = world.connection(alice)
    for variables, code in (
        ({"to": "https://evil.example"}, "invalid_return_to"),
        ({"scopes": 'quo"te'}, "invalid_scope"),
        ({"scopes": "x" * 1001}, "invalid_request"),
    ):
        said = _only(ask(_INITIATE, token=token, id=str(connection.pk), **variables))
        assert (said["success"], said["errorCode"], said["authorizationUrl"]) == (False, code, None)
        assert said["errorMessage"]


def test_a_server_that_cannot_be_discovered_is_an_answer_and_no_error(world: World, alice: User, token: str) -> None:
    world.authorization_server.metadata_answer = Served(500)
    said = _only(ask(_INITIATE, token=token, id=str(world.connection(alice).pk)))
    assert said["success"] is False
    assert said["errorMessage"]
    assert said["isRetryable"] is True


def test_a_token_is_refreshed_on_demand(world: World, alice: User, token: str) -> None:
    connection = world.connect(alice, now=timezone.now() - timedelta(minutes=50))
    before = TokenSet.objects.get().expires_at
    said = _only(ask(_REFRESH, token=token, id=str(connection.pk)))
    after = TokenSet.objects.get().expires_at
    assert said["success"] is True
    assert said["requiresReauthorization"] is False
    assert before is not None
    assert after is not None
    assert after > before
    assert AuditRecord.objects.get(event="token.refreshed").actor == str(alice.pk)


def test_a_refresh_that_only_a_person_can_mend_says_so(world: World, alice: User, token: str) -> None:
    connection = world.connect(alice, now=timezone.now() - timedelta(minutes=50))
    world.authorization_server.refresh_answer = Served(400, {"error": "invalid_grant"})
    said = _only(ask(_REFRESH, token=token, id=str(connection.pk)))
    assert (said["success"], said["requiresReauthorization"], said["expiresAt"]) == (False, True, None)


def test_giving_up_revokes_and_keeps_the_reason(world: World, alice: User, token: str) -> None:
    connection = world.connect(alice, now=timezone.now())
    said = _only(ask(_REVOKE, token=token, id=str(connection.pk), reason="lost laptop"))
    connection.refresh_from_db()
    assert (said["success"], said["connectionId"]) == (True, str(connection.pk))
    assert (connection.status, connection.reason) == ("revoked", "lost laptop")
    assert world.authorization_server.revocations
    long = _only(ask(_REVOKE, token=token, id=str(connection.pk), reason="x" * 201))
    assert (long["success"], long["errorCode"]) == (False, "invalid_request")


def test_tools_are_listed_and_called(world: World, alice: User, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = world.connect(alice, now=timezone.now())
    _answers(monkeypatch, [{"name": "search", "inputSchema": {"type": "object"}}])
    listed = _only(ask(_SYNC, token=token, id=str(connection.pk)))
    assert (listed["success"], listed["toolCount"], listed["result"][0]["name"]) == (True, 1, "search")
    asked = _answers(monkeypatch, {"content": [{"type": "text", "text": "hi"}], "isError": False})
    arguments = {"query": "road", "deep": {"n": [1, 2.5, None, True]}}
    called = _only(ask(_EXECUTE, token=token, id=str(connection.pk), name="search", args=arguments))
    assert (called["success"], called["requiresOAuth"], called["requiresReauthorization"]) == (True, False, False)
    assert called["result"]["content"][0]["text"] == "hi"
    assert (asked[0]["name"], asked[0]["arguments"]) == ("search", arguments)


def test_arguments_may_stand_in_the_document_too(
    world: World, alice: User, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = world.connect(alice, now=timezone.now())
    asked = _answers(monkeypatch, {"content": []})
    query = _EXECUTE.replace("$args: JSON", "$n: Int").replace("inputArgs: $args", 'inputArgs: {q: "a", n: [$n, null]}')
    assert _only(ask(query, token=token, id=str(connection.pk), name="search", n=3))["success"] is True
    assert asked[0]["arguments"] == {"q": "a", "n": [3, None]}


@pytest.mark.parametrize("arguments", [[1], "text", 3, True])
def test_arguments_that_are_no_object_are_refused_and_nothing_is_called(
    world: World, alice: User, token: str, monkeypatch: pytest.MonkeyPatch, arguments: object
) -> None:
    asked = _answers(monkeypatch, {"content": []})
    connection = world.connect(alice, now=timezone.now())
    said = _only(ask(_EXECUTE, token=token, id=str(connection.pk), name="search", args=arguments))
    assert (said["success"], said["errorCode"], asked) == (False, "invalid_request", [])


def test_an_error_of_the_tool_itself_is_no_success(
    world: World, alice: User, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answers(monkeypatch, {"content": [{"type": "text", "text": "no such note"}], "isError": True})
    connection = world.connect(alice, now=timezone.now())
    said = _only(ask(_EXECUTE, token=token, id=str(connection.pk), name="read"))
    assert (said["success"], said["errorCode"], said["result"]["isError"]) == (False, None, True)


def test_a_call_that_needs_a_person_gives_the_link(
    world: World, alice: User, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = world.connection(alice)
    _answers(monkeypatch, AuthorizationRequiredError(reason="invalid_grant"))
    for query in (_SYNC, _EXECUTE):
        said = _only(ask(query, token=token, id=str(connection.pk), name="x"))
        newest = AuthorizationRequest.objects.latest("initiated_at")
        assert (said["success"], said["errorCode"]) == (False, "authorization_required")
        assert (said["requiresOAuth"], said["requiresReauthorization"]) == (True, True)
        assert said["reauthorizationReason"] == "invalid_grant"
        assert said["authorizationUrl"].endswith(str(newest.pk))
        assert AuthorizationRequest.objects.with_state(said["stateParameter"]) == newest


def test_a_tool_that_wants_more_scope_gives_a_link_that_asks_for_it(
    world: World, alice: User, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = world.connect(alice, now=timezone.now())
    _answers(monkeypatch, ScopeRequiredError(BearerChallenge(error="insufficient_scope", scope="notes:write")))
    said = _only(ask(_EXECUTE, token=token, id=str(connection.pk), name="x"))
    assert said["requiresOAuth"] is True
    assert "notes:write" in AuthorizationRequest.objects.latest("initiated_at").scope.split()


def test_a_shared_connection_gives_no_link_to_somebody_who_does_not_manage_it(
    world: World, alice: User, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = shared_connection(world.server(connection_policy="shared"))
    _answers(monkeypatch, AuthorizationRequiredError(reason="not_connected"))
    said = _only(ask(_SYNC, token=token, id=str(connection.pk)))
    assert (said["success"], said["requiresOAuth"], said["authorizationUrl"]) == (False, True, None)
    for query in (_INITIATE, _REVOKE):
        refused = _only(ask(query, token=token, id=str(connection.pk)))
        assert (refused["success"], refused["errorCode"]) == (False, "permission_denied")
    assert AuthorizationRequest.objects.count() == 0


def test_a_server_that_was_closed_to_the_user_is_not_called_but_can_be_left(
    world: World, alice: User, bob: User, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _answers(monkeypatch, [])
    connection = world.connect(alice, now=timezone.now())
    connection.server.users.add(bob)
    for query in (_SYNC, _EXECUTE, _INITIATE, _REFRESH):
        assert _only(ask(query, token=token, id=str(connection.pk), name="x"))["errorCode"] == "permission_denied"
    assert asked == []
    assert _only(ask(_REVOKE, token=token, id=str(connection.pk)))["success"] is True


def test_trouble_on_the_way_is_in_the_payload(
    world: World, alice: User, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = world.connect(alice, now=timezone.now())
    _answers(monkeypatch, ResponseTimeoutError("slow"))
    said = _only(ask(_EXECUTE, token=token, id=str(connection.pk), name="x"))
    assert (said["errorCode"], said["isRetryable"], said["requiresOAuth"]) == ("timeout", True, False)
    assert "slow" not in json.dumps(said)


def test_what_nobody_foresaw_is_logged_and_not_shown(
    world: World, alice: User, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*args: object, **kwargs: object) -> None:
        raise RuntimeError("db password is hunter2")

    monkeypatch.setattr(queries, "connection_status", breaks)
    answer = ask(_STATUS, token=token, id=str(world.connection(alice).pk))
    assert (answer.status, answer.codes) == (200, ["server_error"])
    assert answer.body["errors"][0]["extensions"]["correlationId"] == answer.headers["X-Request-ID"]
    assert "hunter2" not in json.dumps(answer.body)


def test_a_person_needs_the_csrf_token_of_their_session(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    answer = ask("{ __typename }", client=client)
    assert (answer.status, answer.codes) == (403, ["permission_denied"])
    client.get("/accounts/login/")
    client.cookies["csrftoken"] = "a" * 32
    response = client.post(
        "/graphql", {"query": "{ __typename }"}, content_type="application/json", headers={"X-CSRFToken": "a" * 32}
    )
    assert response.json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize("credential", ["", "Bearer mcp_nothing", "Bearer x", "Basic YTpi"])
def test_nobody_gets_in_without_a_valid_credential(db: None, credential: str) -> None:
    headers = {"Authorization": credential} if credential else {}
    response = Client().post("/graphql", {"query": "{ __typename }"}, content_type="application/json", headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert response.json()["errors"][0]["extensions"]["code"] == "not_authenticated"
    assert "data" not in response.json()


def test_no_type_has_a_field_for_a_token_or_a_secret() -> None:
    harmless = {"tokenExpiresAt", "hasValidTokens", "isAccessTokenExpired", "hasRefreshToken", "refreshMCPOAuthToken"}
    names = {
        field
        for kind in schema.graphql_schema.type_map.values()
        for field in getattr(kind, "fields", {})
        if not kind.name.startswith("__")
    }
    suspicious = {
        name for name in names if any(word in name.lower() for word in ("token", "secret", "verifier", "credential"))
    }
    assert suspicious == harmless


def test_no_answer_holds_a_stored_secret(world: World, alice: User, token: str) -> None:
    world.authorization_server.marker = "marker-in-secrets-"
    connection = world.connect(alice, now=timezone.now())
    lists = (
        "{ mcpServers { edges { node { id name url } } } mcpConnections { edges { node { id reason tokenExpiresAt } } }"
    )
    asked = [
        ask(_STATUS, token=token, id=str(connection.pk)),
        ask(lists + " mcpAuditEvents { edges { node { event details } } } }", token=token),
        ask(_REFRESH, token=token, id=str(connection.pk)),
        ask(_REVOKE, token=token, id=str(connection.pk)),
    ]
    assert [answer.status for answer in asked] == [200] * 4
    assert "marker-in-secrets" not in json.dumps([answer.body for answer in asked])
