"""The gateway in this process, in front of one server that a test plays, for callers whose tokens are their names."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from pytest_django import Settings

from gateway import application
from gateway.application import Gateway
from gateway.callers.caller import Caller
from gateway.calls import record as calls
from gateway.calls.record import NotedCall
from gateway.definitions import compare as definitions
from gateway.definitions.described_headers import DescribedHeaders
from gateway.endpoint.answers import BusyError
from gateway.endpoint.challenges import InvalidTokenError, NoTokenError
from gateway.forwarding import forward as forwarding
from gateway.forwarding.headers import Headers
from gateway.messages.parameter_headers import Wording
from gateway.policies.book import PolicyBook
from gateway.policies.policy import Policy
from gateway.streams import watch
from gateway.targets.credentials import Credentials
from gateway.targets.find import TARGETS, NeedsPersonError, Reason
from gateway.targets.target import ServerRow, Target
from mcp_oauth_site.answer_headers import answer_headers

from .upstream import Upstream, serving

MODERN = {"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "echo"}
LEGACY = {"Mcp-Protocol-Version": "2025-11-25"}
_META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


def modern_call(id: int = 1, *, method: str = "tools/call", **params: Any) -> bytes:
    """Return a request of 2026-07-28."""
    named = {"name": "echo", "arguments": {}} if method == "tools/call" else {}
    document = {"jsonrpc": "2.0", "id": id, "method": method, "params": {**named, **params, "_meta": _META}}
    return json.dumps(document).encode()


def legacy_call(id: int = 1, *, method: str = "tools/call", **params: Any) -> bytes:
    """Return a request of an older revision."""
    named = {"name": "echo", "arguments": {}} if method == "tools/call" else {}
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": {**named, **params}}).encode()


@dataclass
class Received:
    """An answer as it came. `is_cut` where it ended before its end."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    is_whole: bool = False

    def header(self, name: str) -> str | None:
        return next((value for found, value in self.headers if found == name), None)

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One request, whose answer can be read piece by piece."""

    def __init__(self, gateway: Gateway, scope: Mapping[str, Any], body: bytes) -> None:
        self._body, self._events = body, asyncio.Queue[dict[str, Any]]()
        self._left, self._may_write = asyncio.Event(), asyncio.Event()
        self._may_write.set()
        self._has_body = False
        self.received = Received()
        self.task = asyncio.create_task(gateway(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._has_body:
            self._has_body = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self._may_write.wait()
        if not self._left.is_set():
            self._events.put_nowait(message)

    @property
    def was_read(self) -> bool:
        """Whether anything of the body was taken."""
        return self._has_body

    async def start(self) -> Received:
        """Wait for the head."""
        message = await asyncio.wait_for(self._events.get(), 10)
        self.received.status = message["status"]
        self.received.headers = [(name.decode(), value.decode()) for name, value in message["headers"]]
        return self.received

    async def piece(self) -> bytes:
        """Wait for a part of the body."""
        message = await asyncio.wait_for(self._events.get(), 10)
        piece: bytes = message.get("body", b"")
        self.received.body += piece
        self.received.is_whole = not message.get("more_body")
        return piece

    async def end(self) -> Received:
        """Wait until the gateway is done, and return all that came."""
        await asyncio.wait_for(self.task, 20)
        if not self.received.status and not self._events.empty():
            await self.start()
        while not self._events.empty():
            await self.piece()
        return self.received

    def leave(self) -> None:
        """Close the connection."""
        self._left.set()
        self._may_write.set()

    def stop_reading(self) -> None:
        """Take nothing more; what is sent waits."""
        self._may_write.clear()


class FakeSessions:
    """In memory, with names that show what they are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.kept: dict[bytes, tuple[str, str]] = {}

    async def bind(self, upstream_id: str, *, caller: Caller, target: Target, opens_links: bool) -> bytes:
        ours = f"ours-{len(self.kept)}".encode()
        self.kept[ours] = caller.subject, upstream_id
        return ours

    async def upstream_id(self, session_id: bytes, *, caller: Caller, target: Target) -> str | None:
        subject, upstream_id = self.kept.get(session_id, ("", ""))
        return upstream_id if subject == caller.subject else None

    async def forget(self, session_id: bytes) -> None:
        del self.kept[session_id]


class Front:
    """Asks the gateway; `targets` is what the server's credentials are, one after the other."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.gateway = Gateway(headers_of=partial(answer_headers, path="/mcp/"))
        self.server = ServerRow(
            id=UUID(int=1), slug="files", name="Files", url=upstream.url, auth_type="oauth",
            transport="streamable_http", status="active", connection_policy="personal",
            grant_type="authorization_code", timeout_seconds=60, version=1, credentials=None,
        )  # fmt: skip
        self.renewed, self.given_up, self.asked, self.rights = 0, 0, 0, {"good"}
        self.caller_seconds: float | None = 600.0
        self.sessions = FakeSessions()
        self.missing: Exception | None = None
        self.connection_id = UUID(int=2)
        self.policy = Policy()
        self.noted: list[NotedCall] = []
        self.described: dict[str, list[Wording]] = {}

    async def identify(self, headers: Headers, **rest: Any) -> Caller:
        authorization = headers.get_all(b"authorization")
        if not authorization:
            raise NoTokenError(scopes=frozenset({"mcp:access"}))
        token = authorization[0].decode().removeprefix("Bearer ")
        if token.startswith("bad"):
            raise InvalidTokenError("The access token has expired.", scopes=frozenset({"mcp:access"}))
        until = None if self.caller_seconds is None else time.time() + self.caller_seconds
        return Caller(hash(token), f"user:{token}", "program", frozenset({"mcp:access"}), until, self._is_good)

    async def _is_good(self, at: float) -> bool:
        self.asked += 1
        return "good" in self.rights

    async def find_server(self, slug: str) -> ServerRow | None:
        return self.server if slug == "files" else None

    async def find_target(self, server: ServerRow, **rest: Any) -> Target:
        if self.missing is not None:
            raise self.missing
        return self._target()

    async def holds(self, target: Target, **rest: Any) -> bool:
        if isinstance(self.missing, BusyError):
            raise self.missing
        return self.missing is None and self._target().connection_id == target.connection_id

    async def renew(self, target: Target, **rest: Any) -> Target:
        self.renewed += 1
        return self._target()

    async def give_up(self, target: Target, *, ends: bool) -> NeedsPersonError:
        self.given_up += ends
        return NeedsPersonError(Reason.REAUTHORIZE, target.server)

    def _target(self) -> Target:
        headers = ((b"Authorization", b"Bearer upstream-%d" % self.renewed),)
        return Target(self.server, Credentials(headers), self.connection_id, self.renewed)

    def open(
        self, body: bytes = b"", headers: Mapping[str, str | None] | None = None, *, method: str = "POST",
        path: str = "/mcp/files", query: bytes = b"", host: str = "testserver",
        more: Sequence[tuple[bytes, bytes]] = (),
    ) -> Client:  # fmt: skip
        """Send a request; a header that is None is not sent. `more` headers may have names that are there already."""
        sent = {
            "host": host, "authorization": "Bearer alice", "accept": "application/json, text/event-stream",
            **({"content-type": "application/json", "content-length": str(len(body))} if body else {}),
            **{name.lower(): value for name, value in (headers or {}).items()},
        }  # fmt: skip
        raw = [(name.encode(), value.encode("latin-1")) for name, value in sent.items() if value is not None]
        raw += more
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query,
            "root_path": "", "scheme": "http", "headers": raw, "http_version": "1.1",
        }  # fmt: skip
        return Client(self.gateway, scope, body)

    async def ask(self, *args: Any, **kwargs: Any) -> Received:
        """Send a request and read its whole answer."""
        return await self.open(*args, **kwargs).end()

    async def looked(self, *, times: int = 3) -> None:
        """Wait until the watch has looked so often at what is under way."""
        for _ in range(times):
            before = self.gateway._watch.now
            async with asyncio.timeout(5):
                while self.gateway._watch.now == before:
                    await asyncio.sleep(0.005)

    async def policy_for(self, server: ServerRow, *, caller: Caller) -> Policy:
        return self.policy

    async def described_of(self, server_id: UUID, tool: str, *, version: int) -> list[Wording]:
        return self.described.get(tool, [])

    def note(self, calls: Sequence[NotedCall]) -> None:
        self.noted += calls

    def change_server(self, **changes: Any) -> None:
        self.server = replace(self.server, **changes)


def limits(**changes: float) -> pytest.MarkDecorator:
    """Open the fixture `front` with these in place of `GATEWAY`."""
    return pytest.mark.parametrize("front", [changes], indirect=True)


def never() -> Any:
    return asyncio.Event().wait()


@asynccontextmanager
async def standing(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> AsyncIterator[Front]:
    """Open a gateway in front of a server that a test plays."""
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    async with serving() as upstream:
        front = Front(upstream)

        async def nothing() -> None:
            """There is no database here."""

        for name in ("find_server", "find_target", "holds", "identify"):
            monkeypatch.setattr(application, name, getattr(front, name))
        monkeypatch.setattr(forwarding, "renew", front.renew)
        monkeypatch.setattr(application, "Sessions", lambda *args, **kwargs: front.sessions)
        monkeypatch.setattr(TARGETS, "threads", None, raising=False)
        for name, value in (("open", nothing), ("close", nothing), ("give_up", front.give_up)):
            monkeypatch.setattr(type(TARGETS), name, lambda self, *args, _value=value, **named: _value(*args, **named))
        monkeypatch.setattr(watch, "TICK_SECONDS", 0.02)
        monkeypatch.setattr(PolicyBook, "policy_for", front.policy_for)
        monkeypatch.setattr(DescribedHeaders, "of_tool", front.described_of)
        monkeypatch.setattr(calls, "_write", front.note)
        monkeypatch.setattr(definitions.DefinitionWatch, "_compare", lambda self, listed: None)
        await front.gateway.open()
        try:
            yield front
        finally:
            await front.gateway.close()
