"""From "somebody has to connect" to the next call that works, through the whole gateway and our own pages."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from django.contrib.auth.models import Group, User
from django.utils import timezone
from pytest_django import Settings

from connections.models import Connection, McpServer, TokenSet
from gateway.person_needed import answer as needs_person
from gateway.person_needed.links import Link
from gateway.person_needed.reasons import NeedsPersonError
from gateway.targets.find import TARGETS
from oauthflow.egress import proofs
from oauthflow.models import AuthorizationRequest
from tests.fakes.internet import Answer, Call
from tests.fakes.proofs import read_proof
from tests.fakes.world import World
from tests.oauthflow.asgi_calls import in_database
from tests.requirements import requirement

from .front import LEGACY, MODERN, Front, Received, legacy_call
from .posted import META
from .upstream import RESULT, Behaviour, answers, in_turn, streams
from .whole import agree, bearer, move, whole

pytestmark = pytest.mark.django_db(transaction=True)

OPENS_LINKS = {"elicitation": {"url": {}}}
REFUSED = answers(status=401, headers={"WWW-Authenticate": 'Bearer resource_metadata="https://evil.example/x"'})
SECRET = "what the server remembers"


@dataclass
class Person:
    """Somebody with a program in front of the gateway."""

    world: World
    user: User
    front: Front
    bearer: dict[str, str]

    async def call(self, *, links: bool = True, id: int = 1, query: bytes = b"", **params: Any) -> Received:
        """Call the tool `echo` as a modern client does."""
        meta = META | {"io.modelcontextprotocol/clientCapabilities": OPENS_LINKS if links else {}}
        document = {"jsonrpc": "2.0", "id": id, "method": "tools/call"}
        document |= {"params": {"name": "echo", "arguments": {"a": 1}, **params, "_meta": meta}}
        return await self.front.ask(json.dumps(document).encode(), {**MODERN, **self.bearer}, query=query)

    async def retry(self, asked: Received, *, action: str = "accept") -> Received:
        """Send the call again with what its answer asked for."""
        result = asked.json()["result"]
        responses = {name: {"action": action} for name in result["inputRequests"]}
        return await self.call(id=2, inputResponses=responses, requestState=result["requestState"])

    async def legacy(self, method: str = "tools/call", **params: Any) -> Received:
        return await self.front.ask(legacy_call(method=method, **params), {**LEGACY, **self.bearer})

    async def agree(self, link: str) -> None:
        await agree(self.world, self.user, link)

    def tokens_seen(self) -> list[str]:
        return [str(seen.header("Authorization")) for seen in self.front.upstream.seen]


@pytest_asyncio.fixture
async def person(world: World, alice: User, settings: Settings) -> AsyncIterator[Person]:
    await in_database(lambda: world.server("files", gateway_enabled=True))
    who = await in_database(lambda: bearer(alice))
    async with whole(settings) as front:
        move(world, front.upstream.url)
        yield Person(world, alice, front, who)


async def connected(person: Person) -> Connection:
    """Connect that person, in front of the server as it stands on loopback."""
    connection: Connection = await in_database(
        lambda: person.world.connect(person.user, slug="files", now=timezone.now())
    )
    return connection


async def stored_token() -> str:
    token: str = await in_database(lambda: TokenSet.objects.get().access_token_sealed.reveal().reveal())
    return token


def link_in(asked: Received) -> str:
    url: str = asked.json()["result"]["inputRequests"]["connect"]["params"]["url"]
    return url


@requirement("E-01", "E-07", "G-22", "G11", "G12")
async def test_who_connects_by_the_link_goes_on_with_the_same_call(person: Person) -> None:
    asked = await person.call()
    assert person.front.upstream.seen == []
    again = await person.retry(asked)
    assert link_in(again) == link_in(asked)
    await person.agree(link_in(again))
    done = await person.retry(again)
    assert (done.status, done.body) == (200, RESULT)
    (seen,) = person.front.upstream.seen
    assert seen.header("Authorization") == f"Bearer {await stored_token()}"
    assert json.loads(seen.body)["params"].keys() == {"name", "arguments", "_meta"}
    for used in (asked, again):
        refused = await person.retry(used)
        assert (refused.status, refused.json()["error"]["code"], refused.json()["id"]) == (400, -32602, 2)
    assert len(person.front.upstream.seen) == 1


@requirement("E-05", "G11", "H-02")
async def test_the_state_of_one_person_is_none_of_another(person: Person, bob: User) -> None:
    asked = await person.call()
    other = Person(person.world, bob, person.front, await in_database(lambda: bearer(bob)))
    assert (await other.retry(asked)).status == 400
    assert person.front.upstream.seen == []


async def test_who_declines_is_told_in_words_and_not_asked_again(person: Person) -> None:
    asked = await person.call()
    result = (await person.retry(asked, action="decline")).json()["result"]
    assert (result["resultType"], result["isError"]) == ("complete", True)
    assert link_in(asked) in result["content"][0]["text"]


async def test_an_older_client_gets_its_error_at_the_beginning_and_goes_on_after_it(person: Person) -> None:
    capabilities = {"protocolVersion": "2025-11-25", "capabilities": OPENS_LINKS, "clientInfo": {}}
    error = (await person.legacy("initialize", **capabilities)).json()["error"]
    assert error["code"] == -32042
    listed = (await person.legacy("tools/list")).json()
    assert "result" not in listed
    link = error["data"]["elicitations"][0]["url"]
    assert link in listed["error"]["message"]
    await person.agree(link)
    assert (await person.legacy("tools/list")).body == RESULT


async def test_a_session_knows_that_its_client_opens_links(person: Person) -> None:
    await connected(person)
    person.front.upstream.behave = answers(headers={"Mcp-Session-Id": "s"})
    sessions = {}
    for name, capabilities in {"links": OPENS_LINKS, "words": {}}.items():
        sent = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": {}}
        sessions[name] = str((await person.legacy("initialize", **sent)).header("mcp-session-id"))
    person.front.upstream.behave = REFUSED
    person.world.authorization_server.refresh_answer = Answer(400, {"error": "invalid_grant"})
    told = {}
    for name, session in sessions.items():
        headers = {**LEGACY, **person.bearer, "Mcp-Session-Id": session}
        told[name] = (await person.front.ask(legacy_call(), headers)).json()
    assert told["links"]["error"]["code"] == -32042
    assert told["words"]["result"]["isError"]


@requirement("G-05", "G03")
async def test_a_token_that_was_revoked_there_is_renewed_once_and_the_call_goes_on(person: Person) -> None:
    await connected(person)
    before = await stored_token()
    person.front.upstream.behave = _unless(before, REFUSED)
    found = await asyncio.gather(*(person.call(id=1) for _ in range(5)))
    assert {(answer.status, answer.body) for answer in found} == {(200, RESULT)}
    assert len(person.world.authorization_server.refresh_requests) == 1
    assert set(person.tokens_seen()) == {f"Bearer {before}", f"Bearer {await stored_token()}"}


def _unless(token: str, refused: Behaviour) -> Behaviour:
    """Refuse one token."""
    good = answers()

    async def behave(request: web.Request) -> web.StreamResponse:
        is_bad = request.headers.get("Authorization") == f"Bearer {token}"
        return await (refused if is_bad else good)(request)

    return behave


@requirement("G-05", "G03")
@pytest.mark.parametrize("is_fresh", [False, True], ids=["the grant has ended", "even a fresh token is refused"])
async def test_what_cannot_be_renewed_is_connected_again_by_the_link(person: Person, is_fresh: bool) -> None:
    await connected(person)
    if not is_fresh:
        person.world.authorization_server.refresh_answer = Answer(400, {"error": "invalid_grant"})
    person.front.upstream.behave = REFUSED
    asked = await person.call()
    assert (asked.status, asked.header("www-authenticate")) == (200, None)
    assert len(person.front.upstream.seen) == (2 if is_fresh else 1)
    assert "evil" not in asked.body.decode()
    assert len(person.world.authorization_server.refresh_requests) == 1
    state = await in_database(lambda: Connection.objects.values_list("status", "reason").get())
    assert state == (("active", "") if is_fresh else ("reauth_required", "invalid_grant"))
    person.world.authorization_server.refresh_answer = None
    person.front.upstream.behave = answers()
    await person.agree(link_in(asked))
    assert (await person.retry(asked)).body == RESULT


@requirement("G-05", "G03", "S-08")
async def test_more_scope_is_asked_for_together_with_what_was_granted(person: Person) -> None:
    person.world.mcp_server.challenge_scope = "files:read"
    await connected(person)
    challenge = 'Bearer error="insufficient_scope", scope="files:write", resource_metadata="https://evil.example/x"'
    person.front.upstream.behave = answers(status=403, headers={"WWW-Authenticate": challenge})
    asked = await person.call()
    assert (asked.status, asked.header("www-authenticate")) == (200, None)
    assert "evil" not in asked.body.decode()
    await person.agree(link_in(asked))
    granted = await in_database(lambda: TokenSet.objects.get().scope)
    assert set(granted.split()) >= {"files:read", "files:write"}
    person.front.upstream.behave = answers()
    assert (await person.retry(asked)).body == RESULT


@pytest.mark.parametrize(
    "challenge", ["", "Bearer", 'Bearer error="insufficient_scope"', 'Bearer error="invalid_token"']
)
async def test_a_403_that_names_no_scope_is_no_reason_to_sign_in(person: Person, challenge: str) -> None:
    await connected(person)
    person.front.upstream.behave = answers(b"evil", status=403, headers={"WWW-Authenticate": challenge})
    answer = await person.call()
    assert (answer.status, answer.json()["error"]["code"]) == (502, -32000)
    assert not await in_database(AuthorizationRequest.objects.filter(status="pending").exists)


def _asking(**changes: Any) -> bytes:
    asked = {"a": {"method": "elicitation/create", "params": {"mode": "form"}}}
    result = {"resultType": "input_required", "inputRequests": asked, "requestState": SECRET, **changes}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


@requirement("G-22", "E-09", "G11")
@pytest.mark.parametrize(
    "behave",
    [answers(_asking()), streams(b": hi\n\nid: 1\ndata: ", _asking()[:50], _asking()[50:] + b"\n", b"\n")],
    ids=["document", "events"],
)
async def test_a_server_s_state_passes_through_the_client_unread(person: Person, behave: Behaviour) -> None:
    await connected(person)
    person.front.upstream.behave = behave
    asked = await person.call()
    assert SECRET not in asked.body.decode()
    text = asked.body.decode().partition("data: ")[2].strip() or asked.body.decode()
    told = Received(200, body=text.encode())
    person.front.upstream.behave = answers()
    assert (await person.retry(told)).body == RESULT
    params = json.loads(person.front.upstream.seen[-1].body)["params"]
    assert (params["requestState"], params["inputResponses"]) == (SECRET, {"a": {"action": "accept"}})
    bad = Received(200, body=_asking())
    assert (await person.retry(bad)).status == 400


@requirement("G-22")
async def test_what_was_on_its_way_to_the_server_waits_for_the_person(person: Person) -> None:
    await connected(person)
    person.front.upstream.behave = answers(_asking())
    asked = await person.call()
    person.front.upstream.behave = REFUSED
    person.world.authorization_server.refresh_answer = Answer(400, {"error": "invalid_grant"})
    ours = await person.retry(asked)
    person.front.upstream.behave = answers()
    await person.agree(link_in(ours))
    assert (await person.retry(ours)).body == RESULT
    params = json.loads(person.front.upstream.seen[-1].body)["params"]
    assert (params["requestState"], params["inputResponses"]) == (SECRET, {"a": {"action": "accept"}})


NOW: dict[str, tuple[Callable[[], object], int, str]] = {
    "degraded": (lambda: TokenSet.objects.update(expires_at=timezone.now()), 503, "does not answer as it should"),
    "issuer changed": (
        lambda: Connection.objects.update(status="issuer_changed", reason="issuer_changed"),
        200,
        "another sign-in service",
    ),
    "switched off": (lambda: McpServer.objects.update(status="inactive"), 200, "switched off"),
    "not for them": (
        lambda: McpServer.objects.get().groups.add(Group.objects.create(name="others")),
        404,
        "no such server",
    ),
}


@pytest.mark.parametrize(("change", "status", "words"), NOW.values(), ids=NOW.keys())
async def test_each_state_is_told_by_the_very_next_call(
    person: Person, change: Callable[[], object], status: int, words: str
) -> None:
    await connected(person)
    assert (await person.call()).body == RESULT
    person.world.authorization_server.refresh_answer = Answer(503)
    await in_database(change)
    answer = await person.call()
    assert (answer.status, words in answer.body.decode()) == (status, True)
    assert "http" not in answer.body.decode()
    assert (answer.header("retry-after") is not None) is (status == 503)
    assert len(person.front.upstream.seen) == 1


async def test_a_slow_sign_in_service_keeps_nobody_else_waiting(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, busy = threading.Event(), list[int]()

    def slow(error: NeedsPersonError, *, user_id: int) -> Link:
        busy.append(user_id)
        assert go_on.wait(60)
        return Link("https://site.example/connect/requests/x", "x")

    monkeypatch.setattr(needs_person, "link_for", slow)
    waiting = [asyncio.create_task(person.call()) for _ in range(40)]
    try:
        async with asyncio.timeout(20):
            while len(busy) < 8:
                await asyncio.sleep(0.01)
            assert await TARGETS.threads.run(lambda: "served") == "served"
    finally:
        go_on.set()
    assert {answer.status for answer in await asyncio.gather(*waiting)} == {200}


async def test_a_label_in_the_address_names_one_of_several_connections(person: Person) -> None:
    asked = {label: await person.call(query=f"label={label}".encode()) for label in ("home", "work")}
    tokens = {}
    for label, answer in asked.items():
        await person.agree(link_in(answer))
        assert (await person.call(query=f"label={label}".encode())).body == RESULT
        tokens[label] = person.tokens_seen()[-1]
    assert len(set(tokens.values())) == 2
    await person.call()
    assert person.tokens_seen()[-1] == tokens["work"]
    assert (await person.call(query=b"label=a&label=b")).status == 404


async def test_a_bound_token_goes_with_a_proof_and_again_with_the_nonce_that_is_asked_for(person: Person) -> None:
    proofs.forget_nonces()
    person.world.mcp_server.scheme = "DPoP"
    person.world.authorization_server.binds_tokens = True
    person.world.authorization_server.dpop_algorithms = ["ES256"]
    await connected(person)
    asks = {"WWW-Authenticate": 'DPoP error="use_dpop_nonce"', "DPoP-Nonce": "n-1"}
    person.front.upstream.behave = in_turn(answers(status=401, headers=asks), answers())
    assert (await person.call()).body == RESULT
    assert (await person.call()).body == RESULT
    seen = [Call("POST", person.front.upstream.url, dict(one.headers), "") for one in person.front.upstream.seen]
    assert [read_proof(one).claims.get("nonce") for one in seen] == [None, "n-1", "n-1"]
    assert person.world.authorization_server.refresh_requests == []
    proofs.forget_nonces()
