"""The main job by GraphQL; the person who consents has a browser, or is a plain program here."""

from __future__ import annotations

from .programs import Browser, Program
from .upstream import Upstream

INITIATE = """mutation ($id: ID!) { initiateMCPOAuth(input: {connectionId: $id}) {
    success errorMessage authorizationUrl stateParameter expiresAt usedDynamicRegistration } }"""
STATUS = """query ($state: String!) { getMCPOAuthStatus(input: {stateParameter: $state}) {
    success status connectionId completedAt authErrorCode } }"""
CONNECTION = """query ($id: ID!) { getMCPOAuthConnectionStatus(connectionId: $id) {
    isOAuthEnabled hasValidTokens isAccessTokenExpired hasRefreshToken requiresReauthorization
    reauthorizationReason issuerUrl grantedScopes } }"""
SYNC = """mutation ($id: ID!) { syncMCPTools(input: {connectionId: $id}) { success toolCount result requiresOAuth } }"""
EXECUTE = """mutation ($id: ID!, $args: JSON) {
    executeMCPTool(input: {connectionId: $id, toolName: "create_secure_note", inputArgs: $args}) {
    success errorMessage result requiresOAuth authorizationUrl stateParameter requiresReauthorization
    reauthorizationReason } }"""
REFRESH = """mutation ($id: ID!) { refreshMCPOAuthToken(input: {connectionId: $id}) {
    success errorMessage expiresAt requiresReauthorization } }"""
REVOKE = """mutation ($id: ID!) { revokeMCPOAuth(input: {connectionId: $id, reason: "done"}) {
    success errorMessage connectionId } }"""
NOTE = {"title": "Hello", "content": "World"}


def test_a_program_tells_the_main_story_by_graphql(
    administrator: Program, program: Program, browser: Browser, upstream: Upstream
) -> None:
    connection = program.connection(administrator.configure(upstream.notes_url))
    started = program.ask(INITIATE, id=connection)["initiateMCPOAuth"]
    assert started["success"], started
    assert started["usedDynamicRegistration"]
    assert _status(program, started["stateParameter"])["status"] == "PENDING"
    browser.walk(started["authorizationUrl"], upstream=upstream)
    finished = _status(program, started["stateParameter"])
    assert (finished["status"], finished["connectionId"]) == ("COMPLETED", connection)

    stands = program.ask(CONNECTION, id=connection)["getMCPOAuthConnectionStatus"]
    assert stands["isOAuthEnabled"]
    assert stands["hasRefreshToken"]
    assert stands["issuerUrl"] == upstream.issuer
    assert program.ask(SYNC, id=connection)["syncMCPTools"]["toolCount"] == 4
    assert _execute(program, connection)["result"]["structuredContent"]["title"] == "Hello"

    program.wait_until_expired(connection)
    assert _execute(program, connection)["success"]
    assert program.ask(REFRESH, id=connection)["refreshMCPOAuthToken"]["success"]


def test_a_grant_taken_back_upstream_is_said_with_the_way_on(
    administrator: Program, program: Program, browser: Browser, upstream: Upstream
) -> None:
    connection = program.connection(administrator.configure(upstream.notes_url))
    early = _execute(program, connection)
    assert early["requiresOAuth"]
    browser.walk(early["authorizationUrl"], upstream=upstream)
    assert _execute(program, connection)["success"]

    assert upstream.take_back() > 0
    refused = _execute(program, connection)
    assert (refused["success"], refused["requiresReauthorization"]) == (False, True)
    assert refused["reauthorizationReason"]
    browser.walk(refused["authorizationUrl"], upstream=upstream)
    assert _status(program, refused["stateParameter"])["status"] == "COMPLETED"
    assert _execute(program, connection)["success"]

    revoked = program.ask(REVOKE, id=connection)["revokeMCPOAuth"]
    assert (revoked["success"], revoked["connectionId"]) == (True, connection)
    assert not program.ask(CONNECTION, id=connection)["getMCPOAuthConnectionStatus"]["hasValidTokens"]
    assert upstream.take_back() == 0


def _status(program: Program, state: str) -> dict[str, object]:
    found: dict[str, object] = program.ask(STATUS, state=state)["getMCPOAuthStatus"]
    return found


def _execute(program: Program, connection: str) -> dict[str, object]:
    done: dict[str, object] = program.ask(EXECUTE, id=connection, args=NOTE)["executeMCPTool"]
    return done
