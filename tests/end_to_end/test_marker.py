"""L01 with real processes: a marker in every secret, then a search of all that the product leaves behind."""

from __future__ import annotations

import base64
import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from tests.fakes.authorization_server import FakeAuthorizationServer
from tests.fakes.mcp_server import FakeMcpServer
from tests.fakes.served import served
from tests.product import Product, free_port, running_product
from tests.requirements import requirement

SCOPES = ("servers:write", "servers:read", "connections:read", "connections:write", "tokens:release", "tools:call")


class Client:
    """An API client that keeps every answer for the search, except the one that releases a token on purpose."""

    def __init__(self, product: Product) -> None:
        self.base = f"{product.url}/api/v1"
        self.headers = {"Authorization": f"Bearer {product.api_token('admin', *SCOPES)}"}
        self.heard: list[str] = []

    def ask(self, method: str, path: str, *, kept: bool = True, **body: Any) -> requests.Response:
        answer = requests.request(method, f"{self.base}/{path}", json=body or None, headers=self.headers, timeout=60)
        if kept:
            self.heard.append(f"{answer.headers}{answer.text}")
        return answer


@requirement("T-08", "T-11")
def test_no_secret_is_found_in_logs_files_answers_or_process_arguments(tmp_path: Path) -> None:
    marker = f"MARK{secrets.token_hex(8)}"
    issuer_port, server_port = free_port(), free_port()
    issuer, url = f"http://localhost:{issuer_port}", f"http://localhost:{server_port}/mcp"
    upstream = FakeAuthorizationServer(issuer=issuer, marker=marker, expires_in=1)
    resource = FakeMcpServer(url=url, issuers=[issuer])
    with (
        served(upstream, port=issuer_port),
        served(resource, port=server_port),
        running_product(tmp_path, workers=True) as product,
    ):
        client = Client(product)
        client_secret = f"fixed-{marker}"
        client.ask("POST", "servers", name="N", slug="n", url=url, auth_type="oauth")
        client.ask("POST", "servers", name="F", slug="f", url=url, auth_type="bearer", static_credential=client_secret)
        connection = client.ask("POST", "connections", server="n").json()["id"]
        _authorize(client, upstream, connection)
        released = client.ask("POST", f"connections/{connection}/token", kept=False)
        assert marker in released.json()["access_token"]
        assert client.ask("POST", f"connections/{connection}/refresh").status_code == 200
        upstream.refresh_answer = None
        upstream.refresh_tokens.clear()  # the grant is gone: the failure is searched as well
        client.ask("POST", f"connections/{connection}/refresh")
        client.ask("GET", f"connections/{connection}/tools")
        for path in ("servers", "connections", f"connections/{connection}/status", "audit/events", "servers/export"):
            client.ask("GET", path)
        arguments = _arguments_of_children(product)
        client.ask("POST", f"connections/{connection}/revoke")
        dump = "\n".join(_dump(Path(product.environment["DATA_DIR"]) / "site.sqlite3"))

    places = {
        "log": product.log.read_text(),
        "arguments": arguments,
        "database": dump,
        "answers": "".join(client.heard),
    }
    for name, place in places.items():
        assert place, name
        for form in _forms(marker):
            assert form not in place, f"{form} in {name}"
    for file in Path(product.environment["DATA_DIR"]).rglob("*"):
        if file.is_file():
            assert marker.encode() not in file.read_bytes(), file


def _authorize(client: Client, upstream: FakeAuthorizationServer, connection: str) -> None:
    started = client.ask("POST", "oauth/initiate", kept=False, connection_id=connection, manual=True).json()
    back = upstream.authorize(started["authorization_url"])
    done = client.ask("POST", "oauth/complete", state=started["state"], redirect_url=back)
    assert done.status_code == 200, done.text


def _forms(marker: str) -> Iterator[str]:
    """The marker as it is, and as encodings show it whatever stands before it."""
    yield marker
    yield marker.encode().hex()
    for shift in range(3):
        encoded = base64.b64encode(b"x" * shift + marker.encode()).decode()
        yield encoded[4 if shift else 0 : -4]


def _arguments_of_children(product: Product) -> str:
    """What anybody on the machine reads in the process list."""
    mine = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
                arguments = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if product.environment["DATA_DIR"].encode() in environment:
                mine.append(arguments.decode(errors="replace"))
    return "\n".join(mine)


def _dump(file: Path) -> Iterator[str]:
    with sqlite3.connect(file) as database:
        yield from database.iterdump()
