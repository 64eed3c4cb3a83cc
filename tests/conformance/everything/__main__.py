"""An MCP server that has whatever the public conformance suite asks a server for, on the official SDK, in both eras.

python -m tests.conformance.everything PORT KEY: it wants `Authorization: Bearer KEY`, and says when it is there at
`/healthz`.
"""

from __future__ import annotations

import base64
import json
import sys

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import Prompt, PromptArgument, UserMessage
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp_types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    EmptyResult,
    PromptReference,
    ResourceTemplateReference,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from mcp_types.jsonrpc import JSONRPCMessage

from tests.end_to_end.keyed_server import Key

from . import content, questions, rounds

_RETRY_MILLISECONDS = 100


class Events(EventStore):
    """What was sent, so that a client that comes back hears the rest of its stream."""

    def __init__(self) -> None:
        self._sent: list[tuple[str, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        self._sent.append((stream_id, message))
        return str(len(self._sent))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        last = int(last_event_id) if last_event_id.isdecimal() else 0
        if not 0 < last <= len(self._sent):
            return None
        stream = self._sent[last - 1][0]
        for number, (of_stream, message) in enumerate(self._sent[last:], start=last + 1):
            if of_stream == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


def everything() -> MCPServer:
    server = MCPServer("everything", version="1", log_level="WARNING")
    for tool in (*content.TOOLS, *questions.TOOLS, *rounds.TOOLS):
        server.add_tool(tool)
    server.prompt(description="Asks for what it needs first.")(rounds.test_input_required_result_prompt)
    _add_resources(server)
    _add_prompts(server)
    _add_what_only_older_clients_ask(server)

    @server.completion()
    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        return Completion(values=[f"{argument.value}{ending}" for ending in ("ed", "ing")], total=2, has_more=False)

    @server.tool(description="Changes the list of tools, as those hear who listen.")
    async def test_trigger_tool_change(ctx: Context) -> str:
        await ctx.notify_tools_changed()
        return "changed"

    @server.tool(description="Changes the list of prompts, as those hear who listen.")
    async def test_trigger_prompt_change(ctx: Context) -> str:
        await ctx.notify_prompts_changed()
        return "changed"

    return server


def _add_resources(server: MCPServer) -> None:
    @server.resource("test://static-text", mime_type="text/plain", description="A text.")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png", description="A picture.")
    def static_binary() -> bytes:
        return base64.b64decode(content.PICTURE)

    @server.resource("test://watched-resource", mime_type="text/plain", description="To be watched.")
    def watched() -> str:
        return "Nothing happens here."

    @server.resource("test://template/{id}/data", mime_type="application/json", description="One of many.")
    def templated(id: str) -> str:
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _add_prompts(server: MCPServer) -> None:
    @server.prompt(description="Has no arguments.")
    def test_simple_prompt() -> str:
        return "This is a simple prompt for testing."

    @server.prompt(description="Has two arguments.")
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    def with_resource(**arguments: str) -> list[UserMessage]:
        text = "Embedded resource content for testing."
        inner = TextResourceContents(uri=arguments["resourceUri"], mime_type="text/plain", text=text)
        return [UserMessage(content.embedded(inner)), UserMessage("Please process the embedded resource above.")]

    wanted = [PromptArgument(name="resourceUri", required=True)]
    name = "test_prompt_with_embedded_resource"
    server.add_prompt(Prompt(name=name, description="Holds a resource.", arguments=wanted, fn=with_resource))

    @server.prompt(name="test_prompt_with_image", description="Holds a picture.")
    def with_image() -> list[UserMessage]:
        return [UserMessage(content.picture()), UserMessage("Please analyze the image above.")]


def _add_what_only_older_clients_ask(server: MCPServer) -> None:
    async def done(ctx: object, params: object) -> EmptyResult:
        return EmptyResult()

    # The SDK offers these on its lower level alone.
    below = server._lowlevel_server
    below.add_request_handler("logging/setLevel", SetLevelRequestParams, done)
    below.add_request_handler("resources/subscribe", SubscribeRequestParams, done)
    below.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, done)


if __name__ == "__main__":
    app = everything().streamable_http_app(event_store=Events(), retry_interval=_RETRY_MILLISECONDS)
    guarded = Key(app, name="Authorization", value=f"Bearer {sys.argv[2]}")
    uvicorn.run(guarded, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
