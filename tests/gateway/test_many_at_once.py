"""Many calls at the same time with the same ids, half of them given up: everybody gets their own answers only."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import pytest
from aiohttp import web
from django.contrib.auth.models import User
from pytest_django import Settings

from connections.models import TokenSet
from gateway.application import Gateway
from gateway.streams import watch
from tests.fakes.world import World
from tests.requirements import requirement

from .front import LEGACY, MODERN, legacy_call, modern_call
from .whole import bearer, connect, whole

pytestmark = pytest.mark.django_db(transaction=True)
CALLS = 500
# More at once would be a test of how fast this process connects to itself.
_CONNECTING = 50


@dataclass
class Call:
    """One call, told apart by its argument alone. A client that `gives_up` goes after the first part of its answer."""

    person: str
    number: int
    is_modern: bool
    gives_up: bool
    received: bytes = b""
    status: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def word(self) -> str:
        return f"{self.person}-{self.number}" + ("-endless" if self.gives_up else "")

    def got_its_own(self, token: str) -> bool:
        """Whether the one answer that came is the one to this call."""
        said = self.received.removeprefix(b"data: ").strip()
        wanted = {"jsonrpc": "2.0", "id": 1, "result": {"word": self.word, "token": token}}
        return self.status == 200 and json.loads(said) == wanted

    async def make(self, gateway: Gateway, headers: dict[str, str]) -> None:
        build: Callable[..., bytes] = modern_call if self.is_modern else legacy_call
        body = build(1, arguments={"word": self.word})
        sent = {
            "host": "testserver", "content-type": "application/json", "accept": "application/json, text/event-stream",
            "content-length": str(len(body)), **(MODERN if self.is_modern else LEGACY), **headers,
        }  # fmt: skip
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if unread:
                return unread.pop()
            await self.left.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            self.status = message.get("status", self.status)
            if not self.left.is_set():
                self.received += message.get("body", b"")
            if self.gives_up and self.received:
                self.left.set()

        scope = {
            "type": "http", "method": "POST", "path": "/mcp/files", "raw_path": b"/mcp/files", "query_string": b"",
            "root_path": "", "scheme": "http", "http_version": "1.1",
            "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        }  # fmt: skip
        await gateway(scope, receive, send)


class Echo:
    """Once all are there, answers with the word and the token of each call in an order of its own; some never end."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.all_here = asyncio.Event()
        self.cut: set[str] = set()
        self.all_left = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        word = json.loads(await request.read())["params"]["arguments"]["word"]
        token = request.headers["Authorization"]
        self.seen.append((word, token))
        said = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"word": word, "token": token}}).encode()
        await self.all_here.wait()
        drawn = crc32(word.encode())
        for _ in range(drawn % 20):
            await asyncio.sleep(0)
        if "endless" not in word and drawn & 64:
            return web.Response(body=said, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: " + said + b"\n\n")
        if "endless" in word:
            await self._hang(word)
        return response

    async def _hang(self, word: str) -> None:
        try:
            await self.all_left.wait()
        except asyncio.CancelledError:
            self.cut.add(word)
            raise


@dataclass
class Person:
    """What their requests come with, and what the gateway's come with on their behalf."""

    headers: dict[str, str]
    upstream: str


@pytest.fixture
def people(world: World, alice: User, bob: User) -> dict[str, Person]:
    found = {}
    for user in (alice, bob):
        stored = TokenSet.objects.get(connection=connect(world, user))
        found[user.username] = Person(bearer(user), f"Bearer {stored.access_token_sealed.reveal().reveal()}")
    return found


@pytest.fixture
def many_files() -> Iterator[None]:
    """Every call takes three sockets of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@requirement("G-17", "G-20", "G09")
@pytest.mark.usefixtures("many_files")
async def test_two_people_with_five_hundred_calls_each_get_nothing_of_each_other(
    people: dict[str, Person], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "TICK_SECONDS", 0.02)
    calls = [
        Call(person, number, is_modern=number % 4 < 2, gives_up=number % 2 == 0)
        for number in range(CALLS)
        for person in people
    ]
    cancelled = {call.word for call in calls if call.gives_up and call.is_modern}
    echo = Echo()
    async with whole(settings, request_timeout_seconds=300) as front, asyncio.timeout(300):
        front.upstream.behave = echo
        tasks = {}
        for call in calls:
            tasks[call.word] = asyncio.create_task(call.make(front.gateway, people[call.person].headers))
            while len(tasks) - len(echo.seen) >= _CONNECTING:
                await asyncio.sleep(0.001)  # and not 0, which would take the threads' turns from them
        while len(echo.seen) < len(calls):
            await asyncio.sleep(0.01)
        echo.all_here.set()
        await asyncio.gather(*(call.left.wait() for call in calls if call.gives_up))
        await asyncio.gather(*(tasks[call.word] for call in calls if call.is_modern or not call.gives_up))
        while echo.cut != cancelled:
            await asyncio.sleep(0.01)
        echo.all_left.set()
        await asyncio.gather(*tasks.values())
        assert front.gateway._watch.streams() == []
    assert sorted(echo.seen) == sorted((call.word, people[call.person].upstream) for call in calls)
    not_their_own = [call.word for call in calls if not call.got_its_own(people[call.person].upstream)]
    print(f"{len(calls)} calls with one id, {len(cancelled)} cancelled: {len(not_their_own)} got what was not theirs")
    assert not_their_own == []
