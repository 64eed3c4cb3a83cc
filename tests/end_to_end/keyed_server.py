"""`python -m tests.end_to_end.keyed_server PORT HEADER VALUE`: an MCP server that wants one fixed header."""

from __future__ import annotations

import sys

import uvicorn
from mcp.server.mcpserver import MCPServer
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Key:
    """Lets in who sends the header, and everybody to `/healthz`."""

    def __init__(self, app: ASGIApp, *, name: str, value: str) -> None:
        self.app = app
        self.wanted = (name.lower().encode(), value.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["path"] == "/healthz":
            await PlainTextResponse("ok")(scope, receive, send)
        elif self.wanted in scope["headers"]:
            await self.app(scope, receive, send)
        else:
            await PlainTextResponse("no", status_code=401)(scope, receive, send)


def main() -> None:
    port, name, value = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    server = MCPServer("keyed", log_level="WARNING")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    app = Key(server.streamable_http_app(host="127.0.0.1"), name=name, value=value)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
