"""Which headers a tool describes outlives the process that saw its description, and is noticed by all others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from connections.models import McpServer
from gateway.calls.judge import Judging
from gateway.definitions.approve import forget
from gateway.definitions.compare import MOST_WORDINGS
from gateway.endpoint.exchange import Exchange
from gateway.messages import RefusedMessageError, read_message
from gateway.models import ToolDefinition
from gateway.policies import book
from tests.gateway.front import MODERN, modern_call
from tests.gateway.policy_stage import caller_of, in_database, make_server, row_of
from tests.gateway.posted import Headers
from tests.requirements import requirement

pytestmark = pytest.mark.django_db(transaction=True)


class Process:
    """One process of the gateway, through which lists of tools pass, and calls whose body says Oslo."""

    def __init__(self, server: McpServer, user: User) -> None:
        self.judging, self._server, self._caller = Judging(), row_of(server), caller_of(user)

    async def __aenter__(self) -> Process:
        await self.judging.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.judging.close()

    async def relay(self, header: str) -> None:
        """Let a list of tools pass, and wait until it was compared."""
        city = {"type": "string", "x-mcp-header": header} if header else {"type": "string"}
        tool = {"name": "echo", "inputSchema": {"type": "object", "properties": {"city": city}}}
        before = await in_database(ToolDefinition.objects.count)
        self.judging._definitions.note(self._server.id, [tool, {"name": "other"}])
        async with asyncio.timeout(5):
            while await in_database(ToolDefinition.objects.count) == before:
                await asyncio.sleep(0.01)

    async def refusal(self, **sent: str) -> str:
        """Return why a call does not pass; empty where it does."""
        headers = {**MODERN, "Content-Type": "application/json", **{f"Mcp-Param-{name}": sent[name] for name in sent}}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        message = read_message(modern_call(arguments={"city": "Oslo"}), headers=Headers(*headers.items()))
        exchange = Exchange({"method": "POST", "headers": raw}, _nothing, _nothing)
        asked: dict[str, Any] = {"caller": self._caller, "server": self._server}
        policy = await self.judging.policy_for(self._server, caller=self._caller)
        try:
            await self.judging.admit(exchange, message, policy=policy, **asked)
        except RefusedMessageError as error:
            return f"{error.status} {error.code}: {error.message}"
        return ""


async def _nothing(*event: Any) -> None:
    """Nobody asks and nobody answers."""


@pytest.fixture(autouse=True)
def _asked_on_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "_ASKED_SECONDS", 0.0)


@requirement("G-07", "G10")
def test_a_process_that_starts_later_knows_what_was_described(alice: User) -> None:
    server = make_server()

    async def serve() -> list[str]:
        async with Process(server, alice) as first:
            await first.relay("City")
        async with Process(server, alice) as second:
            return [await second.refusal(City="Bergen"), await second.refusal(), await second.refusal(City="Oslo")]

    differs, missing, agrees = asyncio.run(serve())
    assert differs == "400 -32020: The header mcp-param-city differs from the argument that it repeats."
    assert missing == "400 -32020: The header mcp-param-city is missing."
    assert agrees == ""


@requirement("G-07", "G10")
def test_another_process_notices_a_new_description_and_a_forgotten_one(alice: User) -> None:
    server, elsewhere = make_server(), make_server("elsewhere")

    async def serve() -> list[str]:
        async with Process(server, alice) as one, Process(server, alice) as other, Process(elsewhere, alice) as third:
            found = [await other.refusal(City="Bergen")]
            await one.relay("City")
            found += [await other.refusal(City="Bergen"), await other.refusal(), await third.refusal(City="Bergen")]
            await one.relay("")
            found += [await other.refusal(City="Bergen"), await other.refusal()]
            plain = await in_database(lambda: ToolDefinition.objects.get(name="echo", is_change=True))
            await in_database(lambda: forget(plain, actor=alice))
            return [*found, await other.refusal()]

    before, differs, missing, another, still_differs, may_be_left_out, missing_again = asyncio.run(serve())
    assert (before, another, may_be_left_out) == ("", "", "")
    assert "differs" in differs
    assert "differs" in still_differs
    assert "missing" in missing
    assert "missing" in missing_again


def test_where_not_all_descriptions_are_kept_none_is_held_to_have_been_seen(alice: User) -> None:
    """Many people with a description each: what the latest one says nobody knows."""
    server = make_server()
    city = {"type": "object", "properties": {"city": {"type": "string", "x-mcp-header": "City"}}}
    rows = [
        ToolDefinition(
            server=server, name="echo", digest=str(number), state="approved", first_seen_at=timezone.now(),
            definition={"name": "echo", "description": f"Of person {number}", "inputSchema": city},
        )
        for number in range(MOST_WORDINGS)
    ]  # fmt: skip
    ToolDefinition.objects.bulk_create(rows[:-1])

    async def serve() -> list[str]:
        async with Process(server, alice) as process:
            found = [await process.refusal()]
            await in_database(rows[-1].save)
            return [*found, await process.refusal(), await process.refusal(City="Bergen")]

    missing, may_be_left_out, differs = asyncio.run(serve())
    assert "missing" in missing
    assert may_be_left_out == ""
    assert "differs" in differs


def test_what_is_known_asks_the_database_nothing(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    server = make_server()

    async def serve() -> None:
        async with Process(server, alice) as process:
            await process.relay("City")
            await process.refusal()
            asked = process.judging._described._questions
            monkeypatch.setattr(asked, "put", None)
            assert "missing" in await process.refusal()

    asyncio.run(serve())
