"""Which tools a person sees and may call, and how much: by server, by group, noticed within a second."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext

from connections.models import McpServer
from gateway.messages.message import INVALID_PARAMS
from gateway.models import GroupPolicy, Rule, ServerPolicy
from gateway.policies.book import PolicyBook
from gateway.policies.changes import advance_version
from gateway.policies.policy import Approvals, Limits, Policy, ToolRule
from tests.gateway.policy_stage import (
    batch_of,
    caller_of,
    in_database,
    make_server,
    message_of,
    policy_of,
    row_of,
    until,
)

pytestmark = pytest.mark.django_db
ALLOWED, DENIED, ALL = Rule.Tools.ALLOWED, Rule.Tools.DENIED, Rule.Tools.ALL


@pytest.fixture
def server() -> McpServer:
    return make_server()


def _rule(user: User, policy: ServerPolicy, name: str, **columns: Any) -> GroupPolicy:
    group = Group.objects.create(name=name)
    user.groups.add(group)
    return GroupPolicy.objects.create(policy=policy, group=group, **columns)


def _may(policy: Policy, *tools: str) -> list[bool]:
    return [policy.refusal_of(message_of(name=tool)) is None for tool in tools]


@pytest.mark.parametrize(
    ("kind", "patterns", "may"),
    [
        ("allowed", ("search",), [True, False, False, False]),
        ("allowed", ("read_*",), [False, True, True, False]),
        ("allowed", ("*",), [True, True, True, True]),
        ("allowed", (), [False, False, False, False]),
        ("denied", ("search", "read_*"), [False, False, False, False]),
        ("denied", ("SEARCH", "Read_*"), [False, False, False, False]),
        ("denied", ("read",), [True, True, True, True]),
        ("denied", (), [True, True, True, True]),
    ],
)
def test_a_rule_lists_names_and_beginnings_of_names(kind: Any, patterns: tuple[str, ...], may: list[bool]) -> None:
    rule = ToolRule.of(kind, patterns)
    assert [rule.allows(tool) for tool in ("search", "read_", "read_file", "Search")] == may


def test_without_a_policy_everything_passes(server: McpServer, alice: User) -> None:
    policy = policy_of(server, alice)
    assert _may(policy, "search", "delete") == [True, True]
    assert (policy.limits, policy.shows_all) == (Limits(), True)


def test_a_tool_that_is_not_allowed_looks_like_one_that_does_not_exist(server: McpServer, alice: User) -> None:
    ServerPolicy.objects.create(server=server, tools=ALLOWED, tool_patterns="search\nread_*")
    policy = policy_of(server, alice)
    assert _may(policy, "search", "read_file", "delete") == [True, True, False]
    refusal = policy.refusal_of(message_of(name="delete"))
    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.message, refusal.id) == (
        200, INVALID_PARAMS, "Unknown tool: delete", 7,
    )  # fmt: skip
    assert policy.refusal_of(message_of("tools/list")) is None
    assert policy.refusal_of(message_of("prompts/get", name="delete")) is None


@pytest.mark.parametrize(
    "name", ["delete ", " delete", "Delete", "DELETE", "delete\u200b", "\uff44elete", "delete\0", ""]
)
def test_a_server_that_reads_names_leniently_hears_no_denied_one(server: McpServer, alice: User, name: str) -> None:
    ServerPolicy.objects.create(server=server, tools=DENIED, tool_patterns="delete")
    assert policy_of(server, alice).refusal_of(message_of(name=name)) is not None


def test_a_call_that_waits_for_no_answer_is_refused_by_its_status(server: McpServer, alice: User) -> None:
    ServerPolicy.objects.create(server=server, tools=DENIED, tool_patterns="delete")
    refusal = policy_of(server, alice).refusal_of(message_of(name="delete", id=None))
    assert refusal is not None
    assert refusal.status == 400


def test_a_batch_with_one_forbidden_call_does_not_pass(server: McpServer, alice: User) -> None:
    ServerPolicy.objects.create(server=server, tools=DENIED, tool_patterns="delete")
    policy = policy_of(server, alice)
    assert policy.refusal_of(batch_of("search", "read")) is None
    refusal = policy.refusal_of(batch_of("search", "read", "delete"))
    assert refusal is not None
    assert (refusal.status, refusal.id) == (400, 2)


def test_the_rule_of_a_group_counts_instead_of_the_servers(server: McpServer, alice: User, bob: User) -> None:
    policy = ServerPolicy.objects.create(
        server=server, tools=ALLOWED, tool_patterns="search", calls_per_minute=60, open_streams=2
    )
    _rule(alice, policy, "Editors", tools=ALLOWED, tool_patterns="edit", calls_per_minute=10)
    of_alice, of_bob = policy_of(server, alice), policy_of(server, bob)
    assert _may(of_alice, "search", "edit") == [False, True]
    assert _may(of_bob, "search", "edit") == [True, False]
    assert of_alice.limits == Limits(calls_per_minute=10, open_streams=2)
    assert of_bob.limits == Limits(calls_per_minute=60, open_streams=2)


def test_somebody_in_several_groups_may_what_one_of_them_may(server: McpServer, alice: User) -> None:
    policy = ServerPolicy.objects.create(server=server, tools=DENIED, tool_patterns="*", request_bytes=5000)
    _rule(alice, policy, "Readers", tools=ALLOWED, tool_patterns="read_*", calls_per_minute=10, response_bytes=2000)
    _rule(alice, policy, "Editors", tools=ALLOWED, tool_patterns="edit", calls_per_minute=30, response_bytes=1500)
    _rule(alice, policy, "Silent")
    found = policy_of(server, alice)
    assert _may(found, "read_file", "edit", "delete") == [True, True, False]
    assert found.limits == Limits(calls_per_minute=30, request_bytes=5000, response_bytes=2000)


def test_a_group_that_may_everything_is_not_narrowed_by_another(server: McpServer, alice: User) -> None:
    policy = ServerPolicy.objects.create(server=server, tools=DENIED, tool_patterns="delete")
    _rule(alice, policy, "Readers", tools=ALLOWED, tool_patterns="read_*")
    _rule(alice, policy, "Owners", tools=ALL)
    found = policy_of(server, alice)
    assert (_may(found, "delete"), found.shows_all) == ([True], True)


def test_a_group_without_a_word_about_tools_leaves_the_servers_rule(server: McpServer, alice: User) -> None:
    policy = ServerPolicy.objects.create(server=server, tools=DENIED, tool_patterns="delete")
    _rule(alice, policy, "Fast", calls_per_minute=1000)
    found = policy_of(server, alice)
    assert (_may(found, "delete"), found.limits.calls_per_minute) == ([False], 1000)


def test_a_rule_of_one_server_says_nothing_of_another(server: McpServer, alice: User) -> None:
    ServerPolicy.objects.create(server=make_server("other"), tools=DENIED, tool_patterns="*")
    assert policy_of(server, alice).shows_all


@pytest.mark.django_db(transaction=True)
def test_every_change_is_noticed_within_a_second(server: McpServer, alice: User) -> None:
    group = Group.objects.create(name="Editors")

    async def watched() -> list[float]:
        book = PolicyBook()
        await book.open()

        async def may() -> bool:
            policy = await book.policy_for(row_of(server), caller=caller_of(alice))
            return policy.refusal_of(message_of(name="edit")) is None

        async def after(change: Any, wanted: bool) -> float:
            await in_database(change)

            async def is_so() -> bool:
                return await may() is wanted

            return await until(is_so)

        assert await may()
        policy = ServerPolicy(server=server, tools=DENIED, tool_patterns="edit")
        rule = GroupPolicy(policy=policy, group=group, tools=ALL)
        took = [
            await after(policy.save, wanted=False),
            await after(rule.save, wanted=False),
            await after(lambda: alice.groups.add(group), wanted=True),
            await after(lambda: alice.groups.remove(group), wanted=False),
            await after(lambda: alice.groups.add(group), wanted=True),
            await after(group.delete, wanted=False),
            await after(policy.delete, wanted=True),
        ]
        await book.close()
        return took

    assert max(asyncio.run(watched())) < 1


@pytest.mark.django_db(transaction=True)
def test_while_nothing_changes_one_row_is_read_in_half_a_second(server: McpServer, alice: User) -> None:
    """And nothing at all for the calls in between."""
    ServerPolicy.objects.create(server=server, calls_per_minute=5)
    book = PolicyBook()
    with CaptureQueriesContext(connection) as read:
        first = book._read([None, None])
    assert len(read) == 3
    assert first[0] is first[1]
    book._version = first[0][0]
    with CaptureQueriesContext(connection) as read:
        assert book._read([None]) == [None]
    assert len(read) == 1
    advance_version()
    assert book._read([None]) != [None]

    async def asked() -> int:
        await book.open()
        book._asked_at = float("-inf")
        await asyncio.gather(*(book.policy_for(row_of(server), caller=caller_of(alice)) for _ in range(50)))
        questions = 0
        put = book._questions.put

        def counted(item: int | None) -> Any:
            nonlocal questions
            questions += 1
            return put(item)

        book._questions.put = counted
        for _ in range(200):
            await book.policy_for(row_of(server), caller=caller_of(alice))
        await book.close()
        return questions

    assert asyncio.run(asked()) <= 1


def test_approvals_hold_back_what_nobody_approved() -> None:
    known = {"search": frozenset({"a"}), "read": frozenset({"b"})}
    strict = Approvals(known, frozenset({"read"}), new_tools_wait=True, blocks_changed=True)
    held = [strict.holds_back("search"), strict.holds_back("read"), strict.holds_back("new")]
    assert held == [False, True, True]
    assert [strict.holds_back("search", digest=digest) for digest in ("a", "b")] == [False, True]
    lenient = Approvals(known, frozenset({"read"}), new_tools_wait=False, blocks_changed=True)
    assert not lenient.holds_back("new", digest="c")
    assert [lenient.holds_back(name) for name in ("read", "READ", "new")] == [True, True, False]
    only_new = Approvals(known, frozenset({"read"}), new_tools_wait=True, blocks_changed=False)
    assert [only_new.holds_back("read", digest="z"), only_new.holds_back("new", digest="z")] == [False, True]


@pytest.mark.parametrize("patterns", ["a*b", "x" * 129, "\n".join(f"t{number}" for number in range(501))])
def test_what_is_no_name_of_a_tool_is_refused(server: McpServer, patterns: str) -> None:
    with pytest.raises(ValidationError):
        ServerPolicy(server=server, tools=ALLOWED, tool_patterns=patterns).full_clean()


@pytest.mark.parametrize(("tools", "patterns"), [(ALL, "search"), ("", "search"), (ALLOWED, ""), (DENIED, " \n")])
def test_a_list_and_what_it_is_for_belong_together(server: McpServer, tools: str, patterns: str) -> None:
    with pytest.raises(ValidationError):
        ServerPolicy(server=server, tools=tools, tool_patterns=patterns).full_clean()


@pytest.mark.parametrize("limits", [{"request_bytes": 2**21}, {"response_bytes": 2**24}, {"calls_per_minute": 0}])
def test_a_limit_cannot_be_wider_than_the_gateways_own(server: McpServer, limits: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        ServerPolicy(server=server, **limits).full_clean()
