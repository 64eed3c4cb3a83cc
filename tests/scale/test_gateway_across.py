"""Two gateway processes beside the web processes: what ends there ends streams here, and nobody hangs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.product import free_port, wait_for
from tests.requirements import requirement

from .site import Site, ask, eventually, running_on_sqlite

pytestmark = pytest.mark.scale
_META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
_SEED = """
import json
from django.contrib.auth.models import User
from connections.models import McpServer, TokenSet
from authserver.models import McpClient
from authserver.resources import gateway_resource
from tests.authserver.grants import make_client, make_consent, make_family, mint
user, client = User.objects.get(username="{name}"), make_client("program-{name}")
McpServer.objects.filter(slug="{name}").update(gateway_enabled=True, url="{upstream}")
TokenSet.objects.filter(connection__user=user).update(resource="")
family = make_family(make_consent(user, client, resource=gateway_resource("{name}")))
print(json.dumps({{"access": mint(family), "family": str(family.pk)}}))
"""


class Listened:
    """An MCP server whose answer to `subscriptions/listen` never ends, and to anything else is at once."""

    def __init__(self) -> None:
        self.url, self.left = "", 0

    @contextmanager
    def serving(self) -> Iterator[None]:
        listened = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if asked["method"] != "subscriptions/listen":
                    body = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {"tools": []}}).encode()
                    self._begin("application/json", ("Content-Length", str(len(body))))
                    self.wfile.write(body)
                    return
                self._begin("text/event-stream", ("Connection", "close"))
                self.wfile.write(b'data: {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged"}\n\n')
                self.rfile.read(1)
                listened.left += 1

            def _begin(self, kind: str, header: tuple[str, str]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header(*header)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}/mcp"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()


@dataclass
class Stream:
    """One that is read in a thread; `ended_at` is when it ended in order."""

    answer: requests.Response
    ended_at: float | None = None
    lines: list[str] = field(default_factory=list)

    def read(self) -> None:
        self.lines += self.answer.iter_lines(decode_unicode=True)
        self.ended_at = time.monotonic()


@dataclass(frozen=True)
class Person:
    """One with a connection and a token for its server behind the gateway."""

    name: str
    api_token: str
    connection: str
    access: str
    family: str

    def call(self, gateway: str, method: str = "tools/list", *, stream: bool = False) -> requests.Response:
        document = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": _META}}
        headers = {
            "Authorization": f"Bearer {self.access}", "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method,
            "Accept": "application/json, text/event-stream",
        }  # fmt: skip
        return requests.post(f"{gateway}/mcp/{self.name}", json=document, headers=headers, stream=stream, timeout=60)

    def listen(self, gateway: str) -> Stream:
        stream = Stream(self.call(gateway, "subscriptions/listen", stream=True))
        assert stream.answer.status_code == 200, stream.answer.text
        threading.Thread(target=stream.read, daemon=True).start()
        return stream


@pytest.fixture(scope="module")
def upstream() -> Iterator[Listened]:
    listened = Listened()
    with listened.serving():
        yield listened


@pytest.fixture(scope="module")
def gateways(site: Site) -> Iterator[list[str]]:
    """Addresses of two processes that serve the gateway and nothing else."""
    urls = []
    with ExitStack() as stack:
        for name in ("gateway-1", "gateway-2"):
            port = free_port()
            process = stack.enter_context(site.role("gateway", name, port=port))
            urls.append(f"http://localhost:{port}")
            wait_for(f"{urls[-1]}/healthz", process=process, log=site.logs[name], seconds=300)
            assert requests.get(f"{urls[-1]}/accounts/login/", timeout=20).status_code == 404
        yield urls


def person(site: Site, upstream: Listened, name: str) -> Person:
    api_token, (connection,) = site.seed(name)
    return Person(name, api_token, connection, **json.loads(site.run(_SEED.format(name=name, upstream=upstream.url))))


def _end(how: str, site: Site, whose: Person) -> None:
    if how == "revoke":
        given_back = {"token": whose.access, "client_id": f"program-{whose.name}"}
        assert requests.post(f"{site.webs[0]}/oauth/revoke", given_back, timeout=20).status_code == 200
    elif how == "disconnect":
        url = f"{site.webs[0]}/api/v1/connections/{whose.connection}/revoke"
        assert ask(url, method="POST", token=whose.api_token, body={}).status == 200
    else:
        people = (
            "from django.contrib.auth.models import User\nUser.objects.filter(username={!r}).update(is_active=False)"
        )
        site.run(people.format(whose.name))


@requirement("G14", "G-24")
@pytest.mark.parametrize("how", ["revoke", "disconnect", "deactivate"])
def test_what_ends_at_a_web_process_ends_streams_of_every_gateway_process_within_a_second(
    site: Site, gateways: list[str], upstream: Listened, how: str
) -> None:
    _closes_streams(site, gateways, upstream, how, seconds=1)


@requirement("G14", "G-24")
def test_on_sqlite_without_redis_they_end_within_five_seconds(tmp_path: Path, upstream: Listened) -> None:
    port = free_port()
    with running_on_sqlite(tmp_path) as site, site.role("gateway", "gateway", port=port) as process:
        gateways = [site.webs[0], f"http://localhost:{port}"]
        wait_for(f"{gateways[1]}/healthz", process=process, log=site.logs["gateway"], seconds=300)
        for how in ("revoke", "disconnect", "deactivate"):
            _closes_streams(site, gateways, upstream, how, seconds=5)


def _closes_streams(site: Site, gateways: list[str], upstream: Listened, how: str, *, seconds: float) -> None:
    ending, staying = person(site, upstream, f"listens-{how}"), person(site, upstream, f"stays-{how}")
    streams = [ending.listen(gateway) for gateway in gateways]
    others = [staying.listen(gateway) for gateway in gateways]
    eventually(lambda: all("acknowledged" in "".join(one.lines) for one in (*streams, *others)), seconds=1)
    left, began = upstream.left, time.monotonic()
    _end(how, site, ending)
    answered = time.monotonic()
    eventually(lambda: all(stream.ended_at for stream in streams), seconds=seconds)
    ended = max(stream.ended_at or 0.0 for stream in streams)
    kind = "PostgreSQL and Redis" if site.database else "SQLite, no Redis"
    print(
        f"{kind}, {how}: all closed {ended - answered:.2f} s after the answer, {ended - began:.2f} s after it was asked"
    )
    eventually(lambda: upstream.left == left + 2, seconds=2)
    assert [one.ended_at for one in others] == [None, None]


def test_a_database_that_says_nothing_is_503_and_no_hanging_call(
    site: Site, gateways: list[str], upstream: Listened
) -> None:
    whose = person(site, upstream, "patient-caller")
    assert [whose.call(gateway).status_code for gateway in gateways] == [200, 200]
    assert site.database is not None
    site.database.pause()
    try:
        time.sleep(1.5)  # longer than anything is believed without asking
        answers = [whose.call(gateway) for gateway in gateways]
    finally:
        site.database.go_on()
    assert [answer.status_code for answer in answers] == [503, 503], [answer.text for answer in answers]
    assert [answer.json()["error"]["code"] for answer in answers] == [-32000, -32000]
    eventually(lambda: [whose.call(gateway).status_code for gateway in gateways] == [200, 200], seconds=2)
