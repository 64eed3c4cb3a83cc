"""Calls of the ASGI application in one event loop, with changes of the database in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
from django.db import connections

from mcp_oauth_site.answer_headers import answer_headers
from oauthflow.token_release.application import TokenRelease
from oauthflow.token_release.recorder import CAPACITY


@dataclass(frozen=True)
class Ask:
    """A request. `headers` in any case; the length is added where there is a body."""

    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    method: str = "POST"
    query: bytes = b""
    scheme: str = "http"

    def scope(self) -> dict[str, Any]:
        length = {"content-length": str(len(self.body))} if self.body else {}
        headers = {"host": "testserver", **length, **{name.lower(): value for name, value in self.headers.items()}}
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        return {
            "type": "http", "method": self.method, "path": self.path, "query_string": self.query, "root_path": "",
            "scheme": self.scheme, "headers": sent, "http_version": "1.1",
        }  # fmt: skip


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Step = Ask | Callable[[], object]


async def ask(application: Any, wanted: Ask, *, on_start: Callable[[], Awaitable[None]] | None = None) -> Answer:
    """Send one request and collect its answer."""
    answer, taken = Answer(), False

    async def receive() -> dict[str, Any]:
        nonlocal taken
        if taken:
            await asyncio.Event().wait()
        taken = True
        return {"type": "http.request", "body": wanted.body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            if on_start is not None:
                await on_start()
            answer.status = message["status"]
            pairs = [(name.decode().lower(), value.decode()) for name, value in message["headers"]]
            answer.headers = dict(pairs)
            assert len(answer.headers) == len(pairs), "a header is there twice"
        else:
            answer.body += message.get("body", b"")

    await application(wanted.scope(), receive, send)
    return answer


class Release:
    """The fast path in front of Django; `fell_through` has the address of every call that Django answered."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self.fell_through: list[str] = []
        self.django = get_asgi_application()
        headers_of = partial(answer_headers, path="/api/v1/connections/")
        self.application = TokenRelease(otherwise=self._django, headers_of=headers_of, capacity=capacity)

    async def _django(self, scope: Any, receive: Any, send: Any) -> None:
        self.fell_through.append(scope["path"])
        await self.django(scope, receive, send)

    def play(self, *steps: Step) -> list[Answer]:
        """Open, take the steps one after the other, and close; return the answers."""
        return asyncio.run(self._play(steps))

    async def _play(self, steps: tuple[Step, ...]) -> list[Answer]:
        answers = []
        await self.application.open()
        try:
            for step in steps:
                if isinstance(step, Ask):
                    answers.append(await ask(self.application, step))
                else:
                    await in_database(step)
        finally:
            await self.application.close()
        return answers


async def in_database(work: Callable[[], Any]) -> Any:
    """Do something with the database from inside of an event loop."""

    def closing() -> Any:
        try:
            return work()
        finally:
            connections.close_all()

    return await sync_to_async(closing, thread_sensitive=False)()
