"""POST bodies and headers as clients of both eras send them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from gateway.messages import Message, RefusedMessageError, read_message

MODERN = "2026-07-28"
Judgement = TypeVar("Judgement")
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "client", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Headers:
    """Like those of a request: names in lower case, in the order sent."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self._pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs]

    def get_all(self, name: bytes) -> Sequence[bytes]:
        return [value for found, value in self._pairs if found == name]

    def judged(self, judge: Callable[[Any], Judgement]) -> Judgement:
        return judge(self)


def call(tool: str = "search", *, version: str = MODERN, **members: Any) -> dict[str, Any]:
    """A `tools/call` of the modern era."""
    meta = META | {"io.modelcontextprotocol/protocolVersion": version}
    params = {"name": tool, "arguments": {"query": "roadmap"}, "_meta": meta}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params} | members


def modern_headers(
    *, version: str = MODERN, method: str = "tools/call", name: str | None = "search"
) -> tuple[tuple[str, str], ...]:
    named = () if name is None else (("Mcp-Name", name),)
    return (("MCP-Protocol-Version", version), ("Mcp-Method", method), *named)


def read(document: object, *headers: tuple[str, str]) -> Message:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_message(body, headers=Headers(("Content-Type", "application/json"), *headers))


def refusal(document: object, *headers: tuple[str, str]) -> RefusedMessageError:
    try:
        message = read(document, *headers)
    except RefusedMessageError as error:
        return error
    raise AssertionError(f"a {message.kind} was read")
