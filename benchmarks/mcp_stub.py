"""An MCP server that costs next to nothing, so that what stands in front of it is measured.

    python -m benchmarks.mcp_stub PORT

`/mcp` lets everybody in; `/guarded` wants `Authorization: Bearer up-token`, which shows that a gateway exchanges
tokens. Tools: `echo`, and `stream`, which reports progress three times, 20 ms apart, before it answers.
`subscriptions/listen` is acknowledged and then held. `GET /counters` tells how often each method was called, and how
often the token was wrong.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections import Counter
from typing import Any, cast

import uvloop

_TOKEN = b"\r\nauthorization: bearer up-token\r\n"
_LENGTH = b"\r\ncontent-length:"
_EVENTS = 3
_GAP_SECONDS = 0.02
_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
_TOOLS = [
    {"name": "echo", "description": "Say it again.", "inputSchema": _TEXT},
    {"name": "stream", "description": "Progress, then an answer.", "inputSchema": {"type": "object"}},
]
_COUNTERS: Counter[str] = Counter()


class Stub(asyncio.Protocol):
    """One connection; requests come one after the other and have a Content-Length."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower() + b"\r\n"
            at = head.find(_LENGTH)
            length = int(head[at + len(_LENGTH) : head.index(b"\r\n", at + 2)]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            body, self._buffer = self._buffer[end + 4 : end + 4 + length], self._buffer[end + 4 + length :]
            method, path, _ = head.split(b" ", 2)
            self._answer(method, path, head, body)

    def _answer(self, method: bytes, path: bytes, head: bytes, body: bytes) -> None:
        if path == b"/counters":
            self._send("200 OK", dict(_COUNTERS))
        elif path == b"/guarded" and _TOKEN not in head:
            _COUNTERS["wrong token"] += 1
            self._send("401 Unauthorized", {"error": "invalid_token"}, "WWW-Authenticate: Bearer\r\n")
        elif method != b"post":
            self._send("200 OK" if method == b"delete" else "405 Method Not Allowed", {})
        else:
            self._called(json.loads(body))

    def _called(self, message: dict[str, Any]) -> None:
        method, params = message.get("method", ""), message.get("params") or {}
        _COUNTERS[method] += 1
        if "id" not in message:
            self._send("202 Accepted", {})
        elif method == "subscriptions/listen":
            self._transport.write(_STREAM + _event(_acknowledged(message["id"])))
        elif method == "tools/call" and params.get("name") == "stream":
            task = asyncio.get_running_loop().create_task(self._report(message))
            _RUNNING.add(task)
            task.add_done_callback(_RUNNING.discard)
        else:
            session = f"Mcp-Session-Id: {secrets.token_hex(16)}\r\n" if method == "initialize" else ""
            self._send("200 OK", _result(message["id"], _ANSWERS.get(method, _nothing)(params)), session)

    async def _report(self, message: dict[str, Any]) -> None:
        token = (message["params"].get("_meta") or {}).get("progressToken", message["id"])
        self._transport.write(_STREAM)
        for number in range(1, _EVENTS + 1):
            params = {"progressToken": token, "progress": number, "total": _EVENTS}
            self._transport.write(_event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))
            await asyncio.sleep(_GAP_SECONDS)
        self._transport.write(_event(_result(message["id"], _text("result"))) + b"0\r\n\r\n")

    def _send(self, status: str, document: dict[str, Any], more: str = "") -> None:
        body = json.dumps(document, separators=(",", ":")).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        self._transport.write(head.encode() + body)


_RUNNING: set[asyncio.Task[None]] = set()


def _result(number: object, result: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "result": result}


def _text(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": False, "resultType": "complete"}


def _initialized(params: dict[str, Any]) -> dict[str, Any]:
    about = {"capabilities": {"tools": {}}, "serverInfo": {"name": "stub", "version": "1"}}
    return {"protocolVersion": params.get("protocolVersion", "2025-11-25"), **about}


def _discovered(params: dict[str, Any]) -> dict[str, Any]:
    cached = {"resultType": "complete", "ttlMs": 60000, "cacheScope": "public"}
    return {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **cached}


def _listed(params: dict[str, Any]) -> dict[str, Any]:
    return {"tools": _TOOLS, "resultType": "complete", "ttlMs": 60000, "cacheScope": "public"}


def _echoed(params: dict[str, Any]) -> dict[str, Any]:
    return _text((params.get("arguments") or {}).get("text", ""))


def _nothing(params: dict[str, Any]) -> dict[str, Any]:
    return {}


_ANSWERS = {
    "initialize": _initialized, "server/discover": _discovered, "tools/list": _listed, "tools/call": _echoed,
    "resources/list": lambda _: {"resources": []}, "prompts/list": lambda _: {"prompts": []},
    "resources/templates/list": lambda _: {"resourceTemplates": []},
}  # fmt: skip


def _acknowledged(number: object) -> dict[str, Any]:
    meta = {"_meta": {"io.modelcontextprotocol/subscriptionId": number}, "notifications": {}}
    return {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": meta}


def _event(document: dict[str, Any]) -> bytes:
    data = b"event: message\ndata: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(port: int) -> None:
    """Listen on loopback until ended."""
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
