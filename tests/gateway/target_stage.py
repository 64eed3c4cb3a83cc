"""A server behind the gateway, a person and their connection; and calls of `gateway.targets` in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from connections.models import Connection, McpServer, TokenSet
from gateway.callers.caller import Caller
from gateway.targets.find import NeedsPersonError, NotServedError, Target, Targets
from oauthflow.flows.complete_authorization import complete_authorization
from tests.fakes.world import World
from tests.oauthflow.asgi_calls import in_database

Found = Target | NeedsPersonError | NotServedError
Step = Callable[[Targets, list[Found]], Awaitable[Found | None]]


async def _still_good(at: float) -> bool:
    return True


def caller(user: User, *, client_id: str = "https://client.example/app.json") -> Caller:
    """Somebody who calls with a token of ours."""
    return Caller(user.pk, f"user:{user.pk}", client_id, frozenset({"mcp:access"}), None, _still_good)


def find(user: User, *, slug: str = "notes", label: str = "") -> Step:
    """Ask for the server and the target, as a call does."""

    async def step(targets: Targets, before: list[Found]) -> Found:
        server = await targets.find_server(slug)
        if server is None:
            return NotServedError()
        return await _outcome(targets.find_target(server, caller=caller(user), label=label))

    return step


def renew(user: User, *, of: int = -1) -> Step:
    """The server has answered 401 to the target of an earlier step."""

    async def step(targets: Targets, before: list[Found]) -> Found:
        return await _outcome(targets.renew(target_of(before[of]), caller=caller(user)))

    return step


def give_up(*, of: int = -1) -> Step:
    """The server has answered 401 to what `renew` gave as well."""

    async def step(targets: Targets, before: list[Found]) -> Found:
        return await targets.give_up(target_of(before[of]), ends=True)

    return step


def do(work: Callable[[], Any]) -> Step:
    """Change something in between."""

    async def step(targets: Targets, before: list[Found]) -> None:
        await in_database(work)

    return step


def play(*steps: Step) -> list[Found]:
    """Open, take the steps one after the other, and close; return what was found."""
    return asyncio.run(_play(steps))


async def _play(steps: tuple[Step, ...]) -> list[Found]:
    targets, found = Targets(), list[Found]()
    await targets.open()
    try:
        for step in steps:
            outcome = await step(targets, found)
            if outcome is not None:
                found.append(outcome)
    finally:
        await targets.close()
    return found


async def _outcome(call: Awaitable[Target]) -> Found:
    try:
        return await call
    except (NeedsPersonError, NotServedError) as error:
        return error


def target_of(found: Found) -> Target:
    assert isinstance(found, Target), found
    return found


def reason_of(found: Found) -> str:
    assert isinstance(found, NeedsPersonError), found
    return found.reason


def sent(found: Found) -> dict[str, str]:
    """The credentials that a request would carry."""
    return {name.decode(): value.decode() for name, value in target_of(found).headers_for("POST")}


@dataclass
class Stage:
    """Alice's connection to a server behind the gateway."""

    world: World
    alice: User
    server: McpServer
    connection: Connection

    def tokens(self, **columns: Any) -> None:
        TokenSet.objects.filter(connection=self.connection).update(**columns)

    def own(self, **columns: Any) -> None:
        Connection.objects.filter(pk=self.connection.pk).update(**columns)

    def configure(self, **columns: Any) -> None:
        McpServer.objects.filter(pk=self.server.pk).update(**columns)

    def expires_in(self, seconds: int, **columns: Any) -> None:
        now = timezone.now()
        self.tokens(obtained_at=now - timedelta(hours=1), expires_at=now + timedelta(seconds=seconds), **columns)

    def token(self) -> str:
        """The access token that is stored now."""
        return TokenSet.objects.get(connection=self.connection).access_token_sealed.reveal().reveal()

    def connect(self, user: User, *, label: str = "", at: datetime | None = None) -> Connection:
        """Connect somebody, under a label."""
        return connect(self.world, user, label=label, at=at or timezone.now())


def connect(world: World, user: User, *, label: str, at: datetime) -> Connection:
    """The whole way, to an active connection of that label."""
    connection = world.connection(user, label=label)
    params, cookies = world.come_back(connection, user=user, now=at)
    return complete_authorization(params=params, user=user, cookies=cookies, now=at).connection


def set_stage(world: World, alice: User) -> Stage:
    """Put the fake server behind the gateway, and connect her."""
    server = world.server(gateway_enabled=True)
    connection = world.connect(alice, now=timezone.now())
    return Stage(world, alice, server, connection)
