"""A request is judged by what the database says, and what became of it is in the database afterwards."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from audit.correlation import begin_correlation
from audit.models import AuditRecord
from gateway.calls.judge import Judging
from gateway.endpoint.exchange import Exchange
from gateway.messages import Message
from gateway.models import CallArguments, GroupPolicy, ServerPolicy, ToolDefinition, Usage
from gateway.policies.policy import ForbiddenError
from tests.gateway.policy_stage import caller_of, make_server, message_of, row_of

pytestmark = pytest.mark.django_db(transaction=True)
RESULT = b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}'


def _list(description: str) -> bytes:
    tools = [{"name": name, "description": description} for name in ("search", "delete")]
    return json.dumps({"jsonrpc": "2.0", "id": 7, "result": {"tools": tools}}).encode()


def test_a_request_is_judged_and_noted(alice: User, bob: User) -> None:
    server = make_server()
    policy = ServerPolicy.objects.create(
        server=server, tools="allowed", tool_patterns="search", blocks_changed=True, keeps_arguments=True
    )
    editors = Group.objects.create(name="Editors")
    GroupPolicy.objects.create(policy=policy, group=editors, tools="all")
    bob.groups.add(editors)

    async def ask(judging: Judging, user: User, message: Message, answer: bytes = RESULT) -> bytes:
        sent: list[bytes] = []

        async def send(event: Any) -> None:
            sent.append(event.get("body", b""))

        exchange = Exchange({"method": "POST", "headers": []}, send, send)

        begin_correlation("one-request")
        caller, row = caller_of(user), row_of(server)
        policy = await judging.policy_for(row, caller=caller)
        try:
            with judging.noted(exchange, message, caller=caller, server=row, policy=policy):
                edit = await judging.admit(exchange, message, caller=caller, server=row, policy=policy)
                await exchange.whole(200, [], (edit(answer) if edit else None) or answer)
        except ForbiddenError as error:
            return error.message.encode()
        return b"".join(sent)

    async def serve() -> list[bytes]:
        judging = Judging()
        await judging.open()
        first = [
            await ask(judging, alice, message_of(name="search", arguments={"query": "roadmap", "token": "SECRET"})),
            await ask(judging, alice, message_of(name="delete")),
            await ask(judging, bob, message_of(name="delete")),
            await ask(judging, alice, message_of("tools/list"), _list("first")),
        ]
        await judging.close()  # a process that starts later knows what was pinned
        judging = Judging()
        await judging.open()
        later = [await ask(judging, bob, message_of("tools/list"), _list("second"))]
        await judging.close()
        return first + later

    searched, deleted, deleted_by_editor, listed, changed = asyncio.run(serve())
    assert (searched, deleted, deleted_by_editor) == (RESULT, b"Unknown tool: delete", RESULT)
    assert [tool["name"] for tool in json.loads(listed)["result"]["tools"]] == ["search"]
    assert json.loads(changed)["result"]["tools"] == []
    assert sorted(ToolDefinition.objects.values_list("state", flat=True)) == ["approved"] * 2 + ["waiting"] * 2
    called = AuditRecord.objects.filter(event="tool.called").order_by("sequence")
    assert [(one.actor, one.details["tool"], one.reason) for one in called] == [
        (str(alice.pk), "search", "ok"), (str(alice.pk), "delete", "forbidden"), (str(bob.pk), "delete", "ok"),
    ]  # fmt: skip
    assert {one.correlation_id for one in called} == {"one-request"}
    assert sum(Usage.objects.values_list("count", flat=True)) == 5
    kept = CallArguments.objects.get(user=alice, tool="search")
    assert json.loads(kept.arguments) == {"query": "roadmap", "token": "***"}
