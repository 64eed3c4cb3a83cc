"""Who has to do something first gets a link, in the form that their client understands. Never an empty list."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from mcp.shared.exceptions import UrlElicitationRequiredError
from mcp_types import ErrorData
from mcp_types._v2026_07_28 import InputRequiredResult
from pytest_django import Settings

from audit.models import AuditRecord
from connections.models import Connection, McpServer
from gateway.endpoint.answers import Answer
from gateway.messages import Message
from gateway.person_needed.answer import Asking, answer_needs_person, opens_links
from gateway.person_needed.reasons import NeedsPersonError, Reason
from gateway.targets.statements import StoredServer
from gateway.targets.target import ServerRow, server_row
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.models import AuthorizationRequest
from tests.fakes.internet import Answer as Said
from tests.fakes.world import World
from tests.requirements import requirement

from .posted import META, call, modern_headers, read
from .target_stage import caller

pytestmark = pytest.mark.django_db
Result = TypeVar("Result")

LINKS = {"elicitation": {"form": {}, "url": {}}}
FORMS = {"elicitation": {}}


class Here:
    """Runs what would go to a thread where the test's own transaction is seen."""

    async def run(self, work: Callable[[], Result]) -> Result:
        return await sync_to_async(work)()


@dataclass
class Front:
    """Alice's program in front of a server that she is not connected to."""

    world: World
    alice: User
    server: McpServer = field(init=False)

    def __post_init__(self) -> None:
        self.server = self.world.server(gateway_enabled=True)

    @property
    def row(self) -> ServerRow:
        self.server.refresh_from_db()
        return server_row(StoredServer(*(_column(self.server, name) for name in StoredServer._fields)))

    def needed(self, reason: Reason = Reason.CONNECT, **said: Any) -> NeedsPersonError:
        return NeedsPersonError(reason, self.row, **said)

    def ask(
        self, message: Message | None, error: NeedsPersonError | None = None, *, user: User | None = None, **said: Any
    ) -> Answer:
        shows = opens_links(message) if message is not None else False
        asking = Asking(message, caller(user or self.alice), said.pop("opens_links", shows), **said)
        threads: Any = Here()
        return async_to_sync(answer_needs_person)(error or self.needed(), asking=asking, threads=threads)


def _column(server: McpServer, name: str) -> Any:
    value = getattr(server, name, "")  # which trust it has is no column of its own
    return getattr(value, "ciphertext", value)


@pytest.fixture
def front(world: World, alice: User) -> Front:
    return Front(world, alice)


def modern(
    method: str = "tools/call", *, capabilities: dict[str, Any] = LINKS, name: str | None = "search", **params: Any
) -> Message:
    meta = META | {"io.modelcontextprotocol/clientCapabilities": capabilities}
    if name is not None:
        params |= {"uri" if method == "resources/read" else "name": name}
    document = call(method=method, params={"_meta": meta, **params})
    return read(document, *modern_headers(method=method, name=name))


def legacy(method: str = "tools/call", *, id: int | None = 7, **params: Any) -> Message:
    document = {"jsonrpc": "2.0", "method": method, "params": params}
    return read(document | ({"id": id} if id is not None else {}), ("MCP-Protocol-Version", "2025-11-25"))


def initialize(capabilities: dict[str, Any]) -> Message:
    return legacy("initialize", protocolVersion="2025-11-25", capabilities=capabilities, clientInfo={})


def document(answer: Answer) -> Any:
    assert dict(answer.headers)[b"content-type"] == b"application/json"
    assert dict(answer.headers)[b"cache-control"] == b"no-store"
    return json.loads(answer.body)


def link_of(front: Front) -> str:
    return f"http://localhost:8000/connect/requests/{AuthorizationRequest.objects.get().pk}"


@requirement("E-01", "E-03", "G-22")
@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
def test_a_modern_client_that_opens_links_is_asked_to(front: Front, method: str) -> None:
    answer = front.ask(modern(method))
    told = document(answer)
    assert (answer.status, told["id"]) == (200, 1)
    result = InputRequiredResult.model_validate(told["result"])
    assert result.result_type == "input_required"
    assert told["result"]["inputRequests"] == {
        "connect": {
            "method": "elicitation/create",
            "params": {
                "mode": "url",
                "message": "Notes needs your own account there. Please connect it.",
                "url": link_of(front),
            },
        }
    }
    assert result.request_state
    assert "alice" not in answer.body.decode()


@requirement("E-02")
@pytest.mark.parametrize("capabilities", [{}, FORMS, {"elicitation": {"form": {}}}, {"elicitation": {"url": True}}])
def test_a_client_that_has_not_declared_links_gets_one_in_words(front: Front, capabilities: dict[str, Any]) -> None:
    told = document(front.ask(modern(capabilities=capabilities)))["result"]
    assert (told["resultType"], told["isError"]) == ("complete", True)
    assert told["content"][0]["text"].endswith(f"Open this link, then try again: {link_of(front)}")
    for message in (initialize(capabilities), legacy()):
        assert link_of(front) in json.dumps(document(front.ask(message)))
        assert "elicit" not in front.ask(message).body.decode()


@pytest.mark.parametrize("method", ["tools/list", "server/discover", "prompts/list", "subscriptions/listen"])
def test_what_may_not_ask_fails_with_the_link_in_words_and_is_never_an_empty_list(front: Front, method: str) -> None:
    answer = front.ask(modern(method, name=None))
    told = document(answer)
    assert (answer.status, told["id"], told["error"]["code"]) == (200, 1, -32000)
    assert told["error"]["data"] == {"reason": "connect", "url": link_of(front)}
    assert link_of(front) in told["error"]["message"]


@requirement("E-01")
@pytest.mark.parametrize("method", ["tools/call", "tools/list", "initialize"])
def test_an_older_client_that_opens_links_gets_the_error_made_for_it(front: Front, method: str) -> None:
    message = initialize(LINKS) if method == "initialize" else legacy(method)
    error = document(front.ask(message, opens_links=True))["error"]
    (asked,) = UrlElicitationRequiredError.from_error(ErrorData(**error)).elicitations
    assert (asked.mode, asked.url) == ("url", link_of(front))
    assert asked.elicitation_id == AuthorizationRequest.objects.get().pk.hex
    assert link_of(front) in error["message"]


def test_an_older_client_says_at_the_beginning_that_it_opens_links() -> None:
    assert opens_links(initialize(LINKS))
    assert not opens_links(initialize(FORMS))


def test_an_older_tool_call_fails_with_the_link_in_words(front: Front) -> None:
    told = document(front.ask(legacy()))
    assert told["id"] == 7
    assert told["result"].keys() == {"content", "isError"}
    assert link_of(front) in told["result"]["content"][0]["text"]


def test_each_request_of_a_batch_gets_its_answer(front: Front) -> None:
    batch = [
        {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
        {"jsonrpc": "2.0", "method": "notifications/progress"},
        {"jsonrpc": "2.0", "id": "b", "method": "tools/call", "params": {"name": "search"}},
    ]
    told = document(front.ask(read(batch)))
    assert [(one["id"], "error" in one) for one in told] == [(1, True), ("b", False)]


@pytest.mark.parametrize("message", [None, legacy("notifications/initialized", id=None)], ids=["GET", "notification"])
def test_what_has_no_answer_is_refused_but_not_with_401_or_403(front: Front, message: Message | None) -> None:
    answer = front.ask(message)
    assert (answer.status, document(answer)["id"]) == (409, None)


def test_asking_again_starts_no_second_sign_in(front: Front) -> None:
    links = {document(front.ask(modern("tools/list", name=None)))["error"]["data"]["url"] for _ in range(3)}
    assert len(links) == 1
    assert AuthorizationRequest.objects.count() == 1


@requirement("E-03", "E-05", "E-06", "G12")
def test_the_link_works_for_nobody_else_signs_nobody_in_and_names_nobody(front: Front, bob: User) -> None:
    url = document(front.ask(legacy("tools/list")))["error"]["data"]["url"]
    path = url.removeprefix("http://localhost:8000")
    for said in ("alice", str(front.alice.pk) + "/", "notes", "?"):
        assert said not in path.replace(str(AuthorizationRequest.objects.get().pk), "")
    anonymous, hers, his = Client(), Client(), Client()
    assert anonymous.get(path).headers["Location"].startswith("/accounts/login/")
    his.force_login(bob)
    for answer in (his.get(path), his.post(path)):
        assert answer.status_code == 403
    assert "made for another account" in his.get(path).content.decode()
    hers.force_login(front.alice)
    assert hers.post(path).headers["Location"].startswith("https://as.example/authorize")


@requirement("E-04")
def test_the_link_is_https_where_the_site_is(front: Front, settings: Settings) -> None:
    settings.PUBLIC_URL = "https://mcp.example.org"
    url = document(front.ask(legacy("tools/list")))["error"]["data"]["url"]
    assert url.startswith("https://mcp.example.org/connect/requests/")


def test_a_step_up_asks_for_what_was_granted_and_what_is_missing_together(
    front: Front, alice: User, now: datetime
) -> None:
    front.world.authorization_server.scopes_supported = ["notes:read", "notes:write"]
    front.world.mcp_server.challenge_scope = "notes:read"
    connection = front.world.connect(alice, now=now)
    needed = front.needed(Reason.STEP_UP, connection_id=connection.pk, scopes=frozenset({"notes:write"}))
    told = document(front.ask(modern(), needed))
    assert "more permissions" in json.dumps(told)
    waiting = AuthorizationRequest.objects.get(status="pending")
    assert set(waiting.scope.split()) >= {"notes:read", "notes:write"}


@requirement("S-09")
def test_a_step_up_in_vain_is_left_to_administrators(front: Front, alice: User) -> None:
    connection = front.world.connection(alice)
    for _ in range(2):
        params, cookies = front.world.come_back(connection, user=alice, now=timezone.now(), additional_scopes="more")
        complete_authorization(params=params, user=alice, cookies=cookies, now=timezone.now())
    needed = front.needed(Reason.STEP_UP, connection_id=connection.pk, scopes=frozenset({"more"}))
    error = document(front.ask(legacy("tools/list"), needed))["error"]
    assert error["data"] == {"reason": "administrator"}
    assert "given a moment ago" in error["message"]


WITHOUT_LINK = [reason for reason in Reason if reason not in ("connect", "reauthorize", "step_up", "degraded")]


@pytest.mark.parametrize("reason", WITHOUT_LINK)
def test_what_the_person_cannot_help_has_a_sentence_of_its_own_and_no_link(front: Front, reason: Reason) -> None:
    told = document(front.ask(modern(), front.needed(reason)))
    text = told["result"]["content"][0]["text"]
    assert "Notes" in text
    assert "dministrator" in text
    assert "http" not in text
    assert not AuthorizationRequest.objects.exists()


def test_no_two_states_have_the_same_sentence(front: Front) -> None:
    assert len({front.needed(reason).message for reason in Reason}) == len(Reason)


def test_what_will_pass_says_when_to_try_again(front: Front) -> None:
    answer = front.ask(modern(), front.needed(Reason.DEGRADED, wait_seconds=40))
    assert (answer.status, dict(answer.headers)[b"retry-after"]) == (503, b"40")
    told = document(answer)
    assert (told["id"], told["error"]["code"], told["error"]["data"]) == (1, -32000, {"reason": "degraded"})


def test_a_sign_in_that_cannot_be_started_now_is_told_as_what_it_is(front: Front) -> None:
    front.world.internet["https://mcp.example"] = lambda call: Said(503)
    front.world.internet["https://as.example"] = lambda call: Said(503)
    assert front.ask(modern()).status == 503


def test_a_server_that_moved_needs_an_administrator_before_anybody_signs_in(front: Front, alice: User) -> None:
    connection = front.world.connect(alice, now=timezone.now())
    front.world.mcp_server.issuers = ["https://evil.example"]
    front.world.internet["https://evil.example"] = type(front.world.authorization_server)(issuer="https://evil.example")
    told = document(front.ask(legacy("tools/list"), front.needed(Reason.REAUTHORIZE, connection_id=connection.pk)))
    assert told["error"]["data"] == {"reason": "issuer_changed"}
    assert "evil" not in json.dumps(told)


def test_a_shared_connection_is_for_administrators_to_connect(front: Front, administrator: User, bob: User) -> None:
    front.server.connection_policy = "shared"
    front.server.save()
    told = document(front.ask(legacy("tools/list"), user=bob))["error"]
    assert told["data"] == {"reason": "administrator"}
    assert not Connection.objects.exists()
    assert "url" in document(front.ask(legacy("tools/list"), user=administrator))["error"]["data"]
    assert Connection.objects.get().is_shared


def test_who_cannot_renew_the_shared_connection_connects_their_own(
    front: Front, administrator: User, bob: User
) -> None:
    front.server.connection_policy = "shared"
    front.server.save()
    shared = front.world.connect(administrator, now=timezone.now())
    front.server.connection_policy = "shared_with_personal"
    front.server.save()
    front.ask(legacy("tools/list"), front.needed(Reason.REAUTHORIZE, connection_id=shared.pk), user=bob)
    assert AuthorizationRequest.objects.get(status="pending").connection.user == bob


def test_nobody_is_sent_to_a_server_that_nobody_can_sign_in_to(front: Front) -> None:
    front.server.grant_type = "client_credentials"
    front.server.save()
    told = document(front.ask(legacy("tools/list"), front.needed(Reason.REAUTHORIZE)))["error"]
    assert told["data"] == {"reason": "administrator"}


def test_the_sign_in_that_a_call_starts_is_recorded_as_the_person_s(front: Front) -> None:
    front.ask(modern())
    assert AuditRecord.objects.get(event="authorization.initiated").actor == str(front.alice.pk)
