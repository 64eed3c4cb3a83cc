"""An MCP server on loopback that does what a test says, and keeps all that reached it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]
RESULT = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"hello"}]}}'


@dataclass
class Seen:
    """A request that reached it. `left` is set once the other side has gone before the answer was whole."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    left: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def header(self, name: str) -> str | None:
        return next((value for found, value in self.headers if found.lower() == name.lower()), None)


class Upstream:
    """The server; `behave` is what it does with a request."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.behave: Behaviour = answers()
        self.url = ""

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers = [(name.decode(), value.decode()) for name, value in request.raw_headers]
        seen = Seen(request.method, request.path_qs, headers, await request.read())
        self.seen.append(seen)
        try:
            return await self.behave(request)
        except (asyncio.CancelledError, ConnectionError):
            seen.left.set()
            raise
        finally:
            seen.done.set()


@asynccontextmanager
async def serving() -> AsyncIterator[Upstream]:
    """Serve one until the block ends; its clients that leave cancel what it does for them."""
    upstream = Upstream()
    runner = web.ServerRunner(
        web.Server(upstream._handle, handler_cancellation=True, access_log=None), shutdown_timeout=0.1
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
    await site.start()
    upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
    try:
        yield upstream
    finally:
        await runner.cleanup()


def answers(
    body: bytes = RESULT, *, status: int = 200, kind: str = "application/json", headers: Mapping[str, str] | None = None
) -> Behaviour:
    """Answer at once."""

    async def behave(request: web.Request) -> web.StreamResponse:
        sent = {**({"Content-Type": kind} if kind else {}), **(headers or {})}
        return web.Response(status=status, body=body, headers=sent)

    return behave


def streams(*pieces: bytes | Callable[[], Awaitable[Any]], headers: Mapping[str, str] | None = None) -> Behaviour:
    """Answer with events; between them wait for whatever is called."""

    async def behave(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **(headers or {})})
        await response.prepare(request)
        for piece in pieces:
            if isinstance(piece, bytes):
                await response.write(piece)
            else:
                await piece()
        return response

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Do one after the other, and the last one from then on."""
    waiting = list(behaviours)

    async def behave(request: web.Request) -> web.StreamResponse:
        return await (waiting.pop(0) if len(waiting) > 1 else waiting[0])(request)

    return behave
