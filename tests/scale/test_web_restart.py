"""A web process is restarted under five hundred open streams: each ends in order, and goes on where it was. F22."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import dataclass, field

import aiohttp
import pytest

from tests.faults import fault
from tests.product import free_port, wait_for

from .site import Site

pytestmark = [pytest.mark.scale, fault("F22")]

_PEOPLE, _STREAMS_EACH = 50, 10
_OPENED_AT_ONCE = 20
_SECONDS = 900

_SEED = f"""
import json
from django.contrib.auth.models import User
from django.utils import timezone
from connections.api_tokens import issue_api_token
from connections.models import Connection, McpServer
server = McpServer.objects.create(name="Restarted", slug="restarted", url="https://restarted.example.com/mcp")
made = []
for number in range({_PEOPLE}):
    user = User.objects.create_user(f"restarted-{{number}}")
    connection = Connection.objects.create(server=server, user=user, status="active")
    issued = issue_api_token(user, scopes=["connections:read"], name="listener", now=timezone.now())
    made.append([str(connection.pk), issued.token.reveal()])
print(json.dumps(made))
"""
_HAPPEN = """
from connections.models import Connection
from oauthflow.events import emit
from oauthflow.models import EventType
for connection in Connection.objects.filter(server__slug="restarted"):
    emit(EventType.TOKEN_REFRESHED, connection)
"""


@dataclass
class Listener:
    """One stream of one person: what it said so far, and whether the server ended it in order."""

    connection: str
    token: str
    cursor: str = ""
    told: list[str] = field(default_factory=list)
    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False
    last: str = ""

    async def listen(self, http: aiohttp.ClientSession, web: str, places: asyncio.Semaphore) -> None:
        """Read until the server ends it; a connection that breaks off raises."""
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "text/event-stream"}
        headers |= {"Last-Event-ID": self.cursor} if self.cursor else {}
        async with places:
            answer = await http.get(f"{web}/api/v1/events", headers=headers)
            assert answer.status == 200, await answer.text()
        self.is_open.set()
        async for line in answer.content:
            self._take(line.decode().strip())
        self.ended = True

    async def hears(self, count: int) -> None:
        while len(self.told) < count:
            await asyncio.sleep(0.05)

    def _take(self, line: str) -> None:
        self.last = line or self.last
        name, _, value = line.partition(": ")
        if name == "id":
            self.cursor = value
        elif name == "data" and value:
            self.told.append(json.loads(value)["connection_id"])


def test_every_stream_ends_in_order_and_goes_on_in_the_next_process(site: Site) -> None:
    people = json.loads(site.run(_SEED).splitlines()[-1])
    listeners = [Listener(connection, token) for connection, token in people for _ in range(_STREAMS_EACH)]
    port = free_port()
    asyncio.run(asyncio.wait_for(_restarted_under(listeners, site, port), _SECONDS))
    assert all(listener.told == [listener.connection] for listener in listeners)
    assert {listener.last for listener in listeners} == {": the site stops"}
    assert "Traceback" not in site.logs["web-3"].read_text()
    site.run(_HAPPEN)
    back = listeners[::_STREAMS_EACH]
    asyncio.run(asyncio.wait_for(_listening_again(back, site, port), _SECONDS))
    assert all(listener.told == [listener.connection] * 2 for listener in back)


async def _restarted_under(listeners: list[Listener], site: Site, port: int) -> None:
    """Open all streams, let each hear something, and tell the process to stop."""
    web, places = f"http://localhost:{port}", asyncio.Semaphore(_OPENED_AT_ONCE)
    with site.role("web", "web-3", port=port) as process:
        await asyncio.to_thread(wait_for, f"{web}/healthz", process=process, log=site.logs["web-3"], seconds=300)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=_patient()) as http:
            reading = [asyncio.create_task(listener.listen(http, web, places)) for listener in listeners]
            for listener in listeners:
                await listener.is_open.wait()
            await asyncio.to_thread(site.run, _HAPPEN)
            for listener in listeners:
                await listener.hears(1)
            process.send_signal(signal.SIGTERM)
            await asyncio.gather(*reading)
        assert await asyncio.to_thread(process.wait) == 0


async def _listening_again(listeners: list[Listener], site: Site, port: int) -> None:
    web, places = f"http://localhost:{port}", asyncio.Semaphore(_OPENED_AT_ONCE)
    with site.role("web", "web-4", port=port) as process:
        await asyncio.to_thread(wait_for, f"{web}/healthz", process=process, log=site.logs["web-4"], seconds=300)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=_patient()) as http:
            reading = [asyncio.create_task(listener.listen(http, web, places)) for listener in listeners]
            for listener in listeners:
                await listener.hears(2)
            process.send_signal(signal.SIGTERM)
            await asyncio.gather(*reading)


def _patient() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=_SECONDS)
