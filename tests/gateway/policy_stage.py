"""People, servers and messages for what policies decide."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import connection

from connections.models import McpServer
from gateway.messages import Message
from gateway.policies.book import PolicyBook
from gateway.policies.policy import Policy
from tests.gateway.posted import read

Result = TypeVar("Result")
_WITH_BATCHES = ("MCP-Protocol-Version", "2025-03-26")


def make_server(slug: str = "notes") -> McpServer:
    return McpServer.objects.create(
        name=slug.title(), slug=slug, url=f"https://{slug}.example/mcp", gateway_enabled=True
    )


def row_of(server: McpServer) -> Any:
    """What the gateway knows of a server while it serves calls."""
    return SimpleNamespace(id=server.pk, slug=server.slug)


def caller_of(user: Any, *, client_id: str = "program") -> Any:
    return SimpleNamespace(user_id=user.pk, client_id=client_id)


def message_of(method: str = "tools/call", name: str = "", *, id: int | None = 7, **params: Any) -> Message:
    return read(_document(method, name, id=id, **params), _WITH_BATCHES)


def batch_of(*names: str) -> Message:
    calls = [_document("tools/call", name, id=number) for number, name in enumerate(names)]
    return read(calls, _WITH_BATCHES)


def _document(method: str, name: str, *, id: int | None, **params: Any) -> dict[str, Any]:
    document = {"jsonrpc": "2.0", "id": id, "method": method, "params": {**({"name": name} if name else {}), **params}}
    return {member: value for member, value in document.items() if value is not None}


def policy_of(server: McpServer, user: Any) -> Policy:
    """As a process finds it that has just started."""
    (_, pages), groups = PolicyBook()._read([None, user.pk])
    page = pages.get(server.pk)
    return page.policy(groups) if page else Policy()


async def in_database(call: Callable[[], Result]) -> Result:
    """Call it in another thread, which gives its connection back: there are few."""

    def closing() -> Result:
        try:
            return call()
        finally:
            connection.close()

    return await sync_to_async(closing, thread_sensitive=False)()


async def until(holds: Callable[[], Awaitable[bool]], *, seconds: float = 5.0) -> float:
    """Return how long it took; fail where it does not come about."""
    began = time.monotonic()
    while not await holds():
        assert time.monotonic() - began < seconds
        await asyncio.sleep(0.01)
    return time.monotonic() - began
