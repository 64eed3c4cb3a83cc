"""A server of the official SDK on loopback, both eras on one address, whose tools say what reached it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.types import JSONRPCMessage, JSONRPCResponse
from pydantic import BaseModel
from starlette.responses import PlainTextResponse

_OLD = PlainTextResponse("Bad Request: Unsupported protocol version", status_code=400)
"""What a server that knows the older era only says to the modern one."""


class Named(BaseModel):
    name: str


class Events(EventStore):
    """Every event of every stream, for clients that come back. `asked_after` is what they had seen last.

    Who comes back waits for the answer: the SDK loses what a server says between the replay and what follows it live.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[str, JSONRPCMessage | None]] = []
        self.asked_after: list[str] = []

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        self._kept.append((stream_id, message))
        return str(len(self._kept) - 1)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        self.asked_after.append(last_event_id)
        stream = self._kept[int(last_event_id)][0]
        async with asyncio.timeout(30):
            while not any(of == stream and isinstance(message, JSONRPCResponse) for of, message in self._kept):
                await asyncio.sleep(0.01)
        for number, (stream_id, message) in enumerate(self._kept):
            if stream_id == stream and number > int(last_event_id) and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


class SdkServer:
    """What it is, and what it has seen."""

    def __init__(self) -> None:
        self.events, self.url, self.is_old = Events(), "", False
        self.server = MCPServer("files", log_level="ERROR")
        self.server.tool()(self.whoami)
        self.server.tool()(self.interrupted)
        self.server.tool()(self.announce)
        self.server.tool()(self.ask)
        self.server.tool()(self.publish)
        self.server.tool()(self.much)

    async def whoami(self, ctx: Context) -> dict[str, str]:
        """Say with which credentials and in which session the call came."""
        headers: Any = ctx.request_context.request.headers
        return {"authorization": headers.get("authorization", ""), "session": headers.get("mcp-session-id", "")}

    async def interrupted(self, ctx: Context) -> str:
        """Break off the stream, and answer to whoever comes back for the rest."""
        await ctx.report_progress(1, 2)
        await ctx.close_sse_stream()
        async with asyncio.timeout(30):
            while not self.events.asked_after:
                await asyncio.sleep(0.01)
        await ctx.report_progress(2, 2)
        return "the rest"

    async def announce(self, ctx: Context) -> str:
        """Say on the session's own stream that the tools have changed."""
        await ctx.session.send_tool_list_changed()
        return "announced"

    async def publish(self, ctx: Context) -> str:
        """Say that the tools have changed, and then the prompts, to all who subscribed to either."""
        await ctx.notify_tools_changed()
        await ctx.notify_prompts_changed()
        return "published"

    async def ask(self, ctx: Context) -> str:
        """Ask the client for a name."""
        answer = await ctx.elicit("Who are you?", schema=Named)
        return answer.data.name if answer.action == "accept" else answer.action

    async def much(self, ctx: Context, length: int) -> str:
        """Answer with so many characters, after a step."""
        await ctx.report_progress(1, 2)
        return "x" * length

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve until the block ends; yields the URL."""
        app = self.server.streamable_http_app(event_store=self.events, retry_interval=50, host="127.0.0.1")

        async def either(scope: Any, receive: Any, send: Any) -> None:
            is_modern = (b"mcp-protocol-version", b"2026-07-28") in scope.get("headers", ())
            await (_OLD if self.is_old and is_modern else app)(scope, receive, send)

        async with listening(either) as origin:
            self.url = f"{origin}/mcp"
            yield self.url


@asynccontextmanager
async def listening(app: Any, *, lifespan: Literal["on", "off"] = "on") -> AsyncIterator[str]:
    """Serve an ASGI application in this event loop until the block ends; yields its origin."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(
            uvicorn.Config(app, lifespan=lifespan, log_level="critical", timeout_graceful_shutdown=1)
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving
