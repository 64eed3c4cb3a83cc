"""GraphQL subscriptions over Server-Sent Events."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from connections.models import Connection, McpServer
from connections.services import connection_for, require_reauthorization
from oauthflow.graphql import subscriptions
from oauthflow.graphql.subscriptions import MCPOAuthEventType
from oauthflow.models import AuthorizationRequest, EventType, hash_of
from oauthflow.protocol.codes import Code

from .graphql_client import ask
from .listening import Heard, Site, browser_of, in_thread, program_of, site

pytestmark = pytest.mark.django_db(transaction=True)

ON_EVENT = """subscription ($id: ID) {
  onMCPOAuthEvent(connectionId: $id) {
    eventType connectionId timestamp message requiresUserAction authorizationUrl
  }
}"""
ON_COMPLETED = """subscription ($state: String!) {
  onMCPOAuthCompleted(stateParameter: $state) { success status connectionId authErrorCode isRetryable errorMessage }
}"""
STATE = "s" * 43


@pytest.fixture
def connection(alice: User) -> Connection:
    server = McpServer.objects.create(slug="notes", name="Notes", url="https://notes.example.com/mcp")
    return connection_for(alice, server, actor=alice)


@pytest.fixture
def pending(connection: Connection, alice: User) -> AuthorizationRequest:
    now = timezone.now()
    return AuthorizationRequest.objects.create(
        connection=connection,
        user=alice,
        state_hash=hash_of(STATE),
        initiated_at=now,
        expires_at=now + timedelta(minutes=10),
    )


async def subscribe(here: Site, query: str, *, headers: dict[str, str], **variables: object) -> Heard:
    return await here.listen("/graphql/stream", headers=headers, body={"query": query, "variables": variables})


def results(heard: Heard) -> list[dict[str, Any]]:
    return [event["data"] for event in heard.events]


def is_complete(heard: Heard) -> bool:
    return heard.is_over and heard.frames[-1]["event"] == "complete"


async def test_an_event_is_a_result_with_the_names_of_the_contract(connection: Connection, alice: User) -> None:
    async with site() as here:
        heard = await subscribe(here, ON_EVENT, headers=await in_thread(program_of, alice), id=str(connection.pk))
        assert heard.headers["content-type"] == "text/event-stream; charset=utf-8"
        await in_thread(require_reauthorization, connection, reason=Code.INVALID_GRANT)
        await heard.until(lambda now: bool(now.events))
        assert heard.frames[0]["event"] == "next"
        (event,) = [result["onMCPOAuthEvent"] for result in results(heard)]
        assert event.pop("timestamp").endswith("+00:00")
        assert event == {
            "eventType": "REAUTHORIZATION_REQUIRED",
            "connectionId": str(connection.pk),
            "message": "The access has ended. Please reconnect.",
            "requiresUserAction": True,
            "authorizationUrl": f"http://localhost:8000/connections/{connection.pk}",
        }
        assert not heard.is_over


async def test_without_a_connection_all_of_the_callers_events_come_and_nobody_elses(
    connection: Connection, alice: User, bob: User
) -> None:
    async with site() as here:
        alice_hears = await subscribe(here, ON_EVENT, headers=await in_thread(program_of, alice))
        bob_hears = await subscribe(here, ON_EVENT, headers=await in_thread(program_of, bob))
        await in_thread(require_reauthorization, connection, reason=Code.INVALID_GRANT)
        await alice_hears.until(lambda now: bool(now.events))
        assert bob_hears.events == []


async def test_somebody_elses_connection_is_not_found_and_the_stream_is_complete(
    connection: Connection, bob: User
) -> None:
    async with site() as here:
        headers = await in_thread(program_of, bob)
        said = []
        for id_ in (str(connection.pk), "5f3c1f0e-0000-4000-8000-000000000000", "nothing"):
            heard = await subscribe(here, ON_EVENT, headers=headers, id=id_)
            await heard.until(is_complete)
            (error,) = heard.events[0]["errors"]
            assert error["extensions"]["correlationId"] == heard.headers["x-request-id"]
            said.append((error["extensions"]["code"], error["message"]))
        assert said == [("not_found", "There is nothing here, or nothing of yours.")] * 3
        await heard.hang_up()
        assert here.application.places.taken == 0


@pytest.mark.parametrize(("status", "code"), [("completed", ""), ("failed", "access_denied")])
async def test_the_end_of_a_sign_in_is_told_once(
    status: str, code: str, pending: AuthorizationRequest, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "_LOOK_SECONDS", 0.1)
    async with site() as here:
        heard = await subscribe(here, ON_COMPLETED, headers=await in_thread(program_of, alice), state=STATE)
        await in_thread(AuthorizationRequest.objects.filter(pk=pending.pk).update, status=status, error_code=code)
        await heard.until(is_complete)
        (result,) = results(heard)
        told = result["onMCPOAuthCompleted"]
        assert (told["success"], told["status"], told["authErrorCode"]) == (True, status.upper(), code or None)
        assert told["connectionId"] == str(pending.connection_id)


async def test_a_sign_in_that_ran_out_is_told_without_an_event(
    pending: AuthorizationRequest, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "_LOOK_SECONDS", 0.1)
    async with site() as here:
        heard = await subscribe(here, ON_COMPLETED, headers=await in_thread(program_of, alice), state=STATE)
        past = timezone.now() - timedelta(seconds=1)
        await in_thread(AuthorizationRequest.objects.filter(pk=pending.pk).update, expires_at=past)
        await heard.until(is_complete)
        assert results(heard)[0]["onMCPOAuthCompleted"]["status"] == "EXPIRED"


async def test_somebody_elses_state_is_as_good_as_an_unknown_one(pending: AuthorizationRequest, bob: User) -> None:
    async with site() as here:
        headers = await in_thread(program_of, bob)
        said = []
        for state in (STATE, "t" * 43):
            heard = await subscribe(here, ON_COMPLETED, headers=headers, state=state)
            await heard.until(is_complete)
            said.append(results(heard))
        assert said[0] == said[1]
        assert said[0][0]["onMCPOAuthCompleted"]["success"] is False


@pytest.mark.parametrize(
    "query",
    [
        "{ mcpServers { edges { node { id } } } }",
        "subscription { nope }",
        "subscription {",
        "subscription { onMCPOAuthEvent { eventType } b: onMCPOAuthEvent { eventType } }",
        'mutation { revokeMCPOAuth(input: {connectionId: "x"}) { success } }',
        "subscription ($state: String!) { onMCPOAuthCompleted(stateParameter: $state) { success } }",
    ],
)
async def test_what_is_not_a_valid_subscription_is_an_error_and_complete(query: str, alice: User) -> None:
    async with site() as here:
        heard = await subscribe(here, query, headers=await in_thread(program_of, alice))
        await heard.until(is_complete)
        assert heard.status == 200
        assert {error["extensions"]["code"] for error in heard.events[0]["errors"]} == {"invalid_request"}
        await heard.hang_up()
        assert here.application.places.taken == 0


async def test_only_people_and_programs_with_the_scope_listen(alice: User) -> None:
    async with site() as here:
        nobody = await subscribe(here, ON_EVENT, headers={})
        other = await subscribe(here, ON_EVENT, headers=await in_thread(program_of, alice, "servers:read"))
        without_csrf = await subscribe(here, ON_EVENT, headers=await in_thread(browser_of, alice))
        assert (nobody.status, other.status, without_csrf.status) == (401, 403, 403)
        await other.until(lambda now: now.is_over)
        assert "insufficient_scope" in other.text


async def test_a_stream_that_the_site_ends_is_not_complete_so_that_the_client_comes_back(alice: User) -> None:
    async with site() as here:
        heard = await subscribe(here, ON_EVENT, headers=await in_thread(program_of, alice))
        here.application.end_streams()
        await heard.until(lambda now: now.is_over)
        assert heard.frames == []


def test_a_subscription_at_the_ordinary_address_is_pointed_to_the_stream(alice: User) -> None:
    token = program_of(alice)["authorization"].removeprefix("Bearer ")
    answer = ask("subscription { onMCPOAuthEvent { eventType } }", token=token)
    assert answer.status == 400
    assert "/graphql/stream" in answer.body["errors"][0]["message"]


def test_the_ten_names_are_those_of_the_events() -> None:
    told: dict[str, Any] = MCPOAuthEventType._meta.enum.__members__
    assert {name: member.value for name, member in told.items()} == {kind.name: kind.value for kind in EventType}
