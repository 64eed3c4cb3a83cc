"""requestState: a server's own is wrapped and never read, ours is good for one request of one person only."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User

from gateway.messages import Message, RefusedMessageError
from gateway.person_needed import request_state
from gateway.person_needed.request_state import Bound, Reopened, may_ask, redeem, reopened, state_to_connect, wrapping
from gateway.targets.target import ServerRow
from tests.requirements import requirement

from .posted import META, call, modern_headers, read
from .target_stage import caller

ALICE, BOB = User(pk=1, username="alice"), User(pk=2, username="bob")
SERVER = ServerRow(
    uuid4(), "notes", "Notes", "https://mcp.example/mcp", "oauth", "streamable_http", "active", "personal",
    "authorization_code", 60, 1, None,
)  # fmt: skip
ARGUMENTS = {"query": "roadmap", "limit": 1.5}
SECRET = "what the server wants to remember"


def request(*, tool: str = "search", arguments: Any = ARGUMENTS, id: int = 1, **params: Any) -> Message:
    meta = META | {"progressToken": id}
    document = call(id=id, params={"name": tool, "arguments": arguments, "_meta": meta, **params})
    return read(document, *modern_headers(name=tool))


def bound(message: Message, **changes: Any) -> Bound:
    return replace(Bound(caller(ALICE), SERVER, message), **changes)


def from_server(**result: Any) -> bytes:
    asked = {"resultType": "input_required", "inputRequests": {"a": {"method": "elicitation/create", "params": {}}}}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": asked | {"requestState": SECRET} | result}).encode()


def wrapped_state(**changes: Any) -> str:
    body = wrapping(bound(request(), **changes))(from_server())
    assert body is not None
    state: str = json.loads(body)["result"]["requestState"]
    return state


def back(state: object, *, message: Message | None = None, **changes: Any) -> Reopened:
    sent = message or request(id=2, requestState=state, inputResponses={"a": {"action": "accept"}})
    return reopened(bound(sent, **changes))


@requirement("G-22", "E-09", "G11")
def test_the_state_of_a_server_is_not_shown_and_comes_back_to_it_unchanged() -> None:
    body = wrapping(bound(request()))(from_server())
    assert body is not None
    assert SECRET.encode() not in body
    told = json.loads(body)
    state = told["result"].pop("requestState")
    assert told == {**json.loads(from_server()), "result": told["result"]}

    message = back(state).message
    assert json.loads(message.body)["params"] == message.params
    assert message.params["requestState"] == SECRET
    assert message.params["inputResponses"] == {"a": {"action": "accept"}}
    assert (message.id, message.name, message.params["arguments"]) == (2, "search", ARGUMENTS)


def test_what_holds_no_state_is_not_touched() -> None:
    edit = wrapping(bound(request()))
    for body in (
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"\\"requestState\\""}]}}',
        b'{"result":{"content":[]}}',
        b'{"result":["requestState"]}',
        b'{"requestState"',
        b"[" * 100_000 + b'"requestState"',
    ):
        assert edit(body) is None


@requirement("G-22", "E-05", "E-09", "H-01", "H-02", "G11")
@pytest.mark.parametrize(
    "changes",
    [
        {"caller": caller(BOB)},
        {"caller": caller(ALICE, client_id="https://other.example/app.json")},
        {"server": replace(SERVER, id=uuid4())},
    ],
    ids=["another person", "another program", "another server"],
)
@pytest.mark.parametrize("is_ours", [True, False], ids=["ours", "a server's"])
def test_a_state_is_good_for_nobody_else(changes: dict[str, Any], is_ours: bool) -> None:
    state = state_to_connect(bound(request())) if is_ours else wrapped_state()
    back(state)
    with pytest.raises(RefusedMessageError) as refused:
        back(state, **changes)
    assert (refused.value.status, refused.value.code, refused.value.id) == (400, -32602, 2)


@requirement("G-22", "E-09", "G11")
@pytest.mark.parametrize(
    "changed", [{"tool": "delete"}, {"arguments": {"query": "other"}}, {"arguments": {}}, {"more": 1}]
)
def test_a_state_is_good_for_no_other_request(changed: dict[str, Any]) -> None:
    with pytest.raises(RefusedMessageError):
        back("", message=request(requestState=wrapped_state(), **changed))


@requirement("E-09", "G11")
def test_a_state_that_was_changed_made_up_or_is_none_of_ours_is_refused() -> None:
    state = wrapped_state()
    flipped = [state[:place] + ("A" if state[place] != "A" else "B") + state[place + 1 :] for place in (0, 30, -20)]
    longer = (f"{state}-TAMPERED", f"{state}=", f"{state}\n", f"{state[:9]}!{state[9:]}", f"{state[:9]} {state[9:]}")
    for bad in (*flipped, *longer, state[:-4], "", SECRET, 1, ["a"], {"a": 1}, False):
        with pytest.raises(RefusedMessageError):
            back(bad)


@requirement("E-09", "G11")
def test_a_state_is_good_for_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [wrapped_state(), state_to_connect(bound(request()))]
    now = request_state.time.time()
    monkeypatch.setattr(request_state.time, "time", lambda: now + 590)
    for state in states:
        back(state)
    monkeypatch.setattr(request_state.time, "time", lambda: now + 602)
    for state in states:
        with pytest.raises(RefusedMessageError):
            back(state)


@requirement("G-22")
def test_ours_gives_back_what_was_on_its_way_to_the_server() -> None:
    """The person's access ended in the middle of a conversation with the server."""
    on_its_way = back(wrapped_state()).message
    state = state_to_connect(bound(on_its_way))
    again = request(id=3, requestState=state, inputResponses={"connect": {"action": "accept"}})
    found = reopened(bound(again))
    assert found.message.params["requestState"] == SECRET
    assert found.message.params["inputResponses"] == {"a": {"action": "accept"}}
    assert found.message.id == 3
    assert found.used
    assert not found.declined


def test_ours_leaves_nothing_where_nothing_was_on_its_way() -> None:
    state = state_to_connect(bound(request()))
    found = reopened(bound(request(requestState=state, inputResponses={"connect": {"action": "accept"}})))
    assert found.message.params.keys() == {"name", "arguments", "_meta"}
    assert b"requestState" not in found.message.body
    assert b"inputResponses" not in found.message.body


@pytest.mark.parametrize(
    ("responses", "declined"),
    [
        ({"connect": {"action": "decline"}}, True),
        ({"connect": {"action": "cancel"}}, True),
        ({"connect": {"action": "accept"}}, False),
        ({"connect": "decline"}, False),
        ({}, False),
        ("decline", False),
        (None, False),
    ],
)
def test_a_person_may_decline(responses: Any, declined: bool) -> None:
    state = state_to_connect(bound(request()))
    assert reopened(bound(request(requestState=state, inputResponses=responses))).declined is declined


@requirement("E-09", "G11")
def test_ours_is_redeemed_once() -> None:
    states = [state_to_connect(bound(request())) for _ in range(2)]
    names = [back(state).used for state in (states[0], states[0], states[1])]
    assert [redeem(name) for name in names] == [True, False, True]
    assert not back(wrapped_state()).used


def test_only_requests_that_may_ask_are_looked_at() -> None:
    assert may_ask(request())
    legacy = read({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a", "requestState": "x"}})
    listing = read(
        call(method="tools/list", params={"_meta": META, "requestState": "x"}),
        *modern_headers(method="tools/list", name=None),
    )
    for message in (legacy, listing):
        assert not may_ask(message)
        assert reopened(bound(message)).message is message
