"""Somebody who listens to a stream of the site, in the process of the test and without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.db import connections
from django.test import Client
from django.utils import timezone

from connections.api_tokens import issue_api_token
from oauthflow.streams.application import EventStreams
from oauthflow.streams.places import Places

SECONDS = 60.0


def program_of(user: User, *scopes: str) -> dict[str, str]:
    """Headers of a program of that user; `connections:read` unless told otherwise."""
    issued = issue_api_token(user, scopes=scopes or ("connections:read",), name="listener", now=timezone.now())
    return {"authorization": f"Bearer {issued.token.reveal()}"}


def browser_of(user: User) -> dict[str, str]:
    """Headers of a browser in which that user is signed in."""
    client = Client()
    client.force_login(user)
    return {"cookie": f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"}


async def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Use the database as another process would."""

    def work() -> Any:
        try:
            return function(*args, **kwargs)
        finally:
            connections.close_all()

    return await asyncio.to_thread(work)


@dataclass
class Heard:
    """One request and what came back so far."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    is_over: bool = False
    task: asyncio.Task[None] | None = None
    _body: bytes | None = b""
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _gone: asyncio.Event = field(default_factory=asyncio.Event)
    may_send: asyncio.Event = field(default_factory=asyncio.Event)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    at_answer: Callable[[], object] | None = None

    @property
    def frames(self) -> list[dict[str, str]]:
        """The events, without comments."""
        blocks = [block for block in self.text.split("\n\n") if block and not block.startswith(":")]
        fields = [dict(line.split(":", 1) for line in block.split("\n")) for block in blocks]
        return [{name: value.strip() for name, value in said.items()} for said in fields]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The objects in the `data` of events."""
        return [json.loads(frame["data"]) for frame in self.frames if frame.get("data")]

    @property
    def ids(self) -> list[int]:
        """The ids of events in the order in which they came."""
        return [event["id"] for event in self.events]

    async def until(self, condition: Callable[[Heard], bool], *, seconds: float = SECONDS) -> None:
        """Wait for something to be heard."""
        async with asyncio.timeout(seconds):
            while not condition(self):
                self._news.clear()
                await self._news.wait()

    async def hang_up(self) -> None:
        """Close the connection, as a client does."""
        self._gone.set()
        assert self.task is not None
        await asyncio.wait_for(self.task, SECONDS)

    async def receive(self) -> dict[str, Any]:
        """What the server reads from the client: the body, and later that it is gone."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def take(self, message: dict[str, Any]) -> None:
        self.began.set()
        await self.may_send.wait()
        if message["type"] == "http.response.start":
            if self.at_answer is not None:
                await in_thread(self.at_answer)
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            self.text += message.get("body", b"").decode()
            self.is_over = not message.get("more_body", False)
        self._news.set()


class Site:
    """The streams of one process."""

    def __init__(self, application: EventStreams) -> None:
        self.application = application
        self._heard: list[Heard] = []

    async def listen(
        self,
        path: str = "/api/v1/events",
        *,
        headers: dict[str, str],
        query: str = "",
        body: object = None,
        reads: bool = True,
        at_answer: Callable[[], object] | None = None,
    ) -> Heard:
        """Ask for a stream and wait for the answer's beginning.

        Args:
            path: Of the stream.
            headers: Of the request.
            query: Of the address.
            body: What is posted, where it is not a GET.
            reads: False: the client takes nothing.
            at_answer: Happens in the first moment in which the client can know of the answer.
        """
        sent = b"" if body is None else json.dumps(body).encode()
        heard = Heard(_body=sent, at_answer=at_answer)
        if reads:
            heard.may_send.set()
        all_headers = {"host": "testserver", "accept": "text/event-stream", **headers}
        if sent:
            all_headers |= {"content-type": "application/json", "content-length": str(len(sent))}
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
            "method": "POST" if sent else "GET", "path": path, "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in all_headers.items()],
            "client": ("127.0.0.1", 1), "server": ("testserver", 80),
        }  # fmt: skip
        heard.task = asyncio.create_task(self.application(scope, heard.receive, heard.take))
        self._heard.append(heard)
        if reads:
            await heard.until(lambda now: bool(now.status))
        else:
            await asyncio.wait_for(heard.began.wait(), SECONDS)
        return heard

    async def close(self) -> None:
        for heard in self._heard:
            heard.may_send.set()
            await heard.hang_up()
        await self.application.close()


@asynccontextmanager
async def site(*, places: Places | None = None, heartbeat_seconds: float = 15.0) -> AsyncIterator[Site]:
    """The root's part for streams in front of the real Django application."""
    opened = Site(EventStreams(otherwise=get_asgi_application(), places=places, heartbeat_seconds=heartbeat_seconds))
    try:
        yield opened
    finally:
        await opened.close()
