"""The public MCP conformance suite against our authorization server: no failure and no warning."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.product import Product, free_port, running_product
from tests.requirements import requirement

from .consent import ScriptedPerson
from .suite import program

_SERVER = """
from connections.models import McpServer
about = {"slug": "notes", "name": "Notes", "url": "https://mcp.example/mcp", "auth_type": "none"}
McpServer.objects.create(gateway_enabled=True, **about)
"""

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running_product(tmp_path_factory.mktemp("product")) as running:
        running.run(_SERVER)
        yield running


def _registered(product: Product, redirect_uri: str) -> str:
    document = {
        "client_name": "Conformance suite",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
    }
    answer = requests.post(f"{product.url}/oauth/register", json=document, timeout=30)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["client_id"])


@requirement("A-01", "D-08", "X-02")
def test_the_suite_finds_nothing_to_complain_about(product: Product, tmp_path: Path) -> None:
    port = free_port()
    client_id = _registered(product, f"http://127.0.0.1:{port}/callback")
    where = ["--url", product.url, "--resource", f"{product.url}/mcp/notes", "-p", str(port), "-o", str(tmp_path)]
    person = ScriptedPerson.sign_in(product.url, name="alice", password=product.password)
    said: list[str] = []
    with subprocess.Popen(
        [*program(), "authorization", *where, "--client-id", client_id],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            said.append(line)
            if found := re.search(rf"{re.escape(product.url)}/oauth/authorize\?\S+", line):
                requests.get(person.allow(found[0]), timeout=30).raise_for_status()
    checks = [check for found in tmp_path.rglob("checks.json") for check in json.loads(found.read_text())]
    assert {check["status"] for check in checks} == {"SUCCESS"}, f"{checks}\n{''.join(said)}"
    assert len(list(tmp_path.rglob("checks.json"))) == 2, "".join(said)
