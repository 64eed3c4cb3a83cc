"""The stock client of other people receives what GraphQL subscriptions tell."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.end_to_end.programs import Program
from tests.product import ROOT, Product, running_product

pytestmark = pytest.mark.independent

_PATIENCE_SECONDS = 120

_ON_EVENT = """subscription ($id: ID) {
  onMCPOAuthEvent(connectionId: $id) { eventType connectionId message requiresUserAction }
}"""


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running_product(tmp_path_factory.mktemp("graphql-sse")) as running:
        yield running


@pytest.fixture(scope="module")
def connection(product: Product) -> str:
    slug = Program.of(product, "admin").configure("https://notes.example.com/mcp")
    return Program.of(product, "alice").connection(slug)


@contextmanager
def client(product: Product, *, user: str, query: str, **variables: object) -> Iterator[subprocess.Popen[str]]:
    """The program, which ends by itself after one result."""
    node = next((ROOT / "tests" / "npm" / "node_modules").glob("node-linux-*/bin/node"))
    options = {
        "url": f"{product.url}/graphql/stream",
        "token": product.api_token(user, "connections:read"),
        "query": query,
        "variables": variables,
        "results": 1,
    }
    program = ROOT / "tests" / "independent" / "graphql_sse.mjs"
    command = [str(node), str(program), json.dumps(options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        watchdog = threading.Timer(_PATIENCE_SECONDS, process.kill)  # what never comes ends the reading of it
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


def line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said.startswith("{"), said + process.stdout.read()
    read: dict[str, Any] = json.loads(said)
    return read


def test_the_stock_client_receives_an_event(product: Product, connection: str) -> None:
    with client(product, user="alice", query=_ON_EVENT, id=connection) as listening:
        assert line(listening) == {"connected": True}
        product.manage("revoke", connection)
        assert line(listening)["data"]["onMCPOAuthEvent"] == {
            "eventType": "CREDENTIALS_REVOKED",
            "connectionId": connection,
            "message": "The connection was disconnected.",
            "requiresUserAction": False,
        }
        assert listening.wait(timeout=20) == 0


def test_the_stock_client_is_told_that_somebody_elses_connection_does_not_exist(
    product: Product, connection: str
) -> None:
    with client(product, user="admin", query=_ON_EVENT, id=connection) as listening:
        assert line(listening) == {"connected": True}
        assert line(listening)["errors"][0]["extensions"]["code"] == "not_found"
        assert listening.wait(timeout=20) == 0
