"""The public MCP conformance suite, its auth scenarios at every revision, against the running product."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.product import ROOT, Product, running_product

NPM = ROOT / "tests" / "npm" / "node_modules"
SCENARIOS = json.loads((Path(__file__).parent / "scenarios.json").read_text())
EVERY_SCOPE = (
    "servers:read", "servers:write", "connections:read", "connections:write", "tokens:release", "tools:call",
)  # fmt: skip

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    metadata_url = "https://conformance-test.local/client-metadata.json"
    with running_product(tmp_path_factory.mktemp("product"), CLIENT_METADATA_URL=metadata_url) as running:
        yield running


@pytest.mark.parametrize(
    ("revision", "scenario"),
    [(revision, scenario) for revision, names in SCENARIOS.items() for scenario in names],
)
def test_the_product_passes_the_scenario(product: Product, tmp_path: Path, revision: str, scenario: str) -> None:
    environment = {
        **os.environ,
        "ADAPTER_SITE": product.url,
        "ADAPTER_TOKEN": _token(product),
        "ADAPTER_USER": "admin",
        "ADAPTER_PASSWORD": product.password,
    }
    node = next(NPM.glob("node-linux-*/bin/node"))
    suite = [str(node), str(NPM / "@modelcontextprotocol/conformance/dist/index.js"), "client"]
    adapter = f"{sys.executable} {ROOT / 'tests/conformance/adapter.py'}"
    # The extensions have no revision of their own.
    version = [] if revision == "extensions" else ["--spec-version", revision]
    finished = subprocess.run(
        [*suite, "--command", adapter, "--scenario", scenario, *version, "--timeout", "60000", "-o", str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    checks = [check for found in tmp_path.rglob("checks.json") for check in json.loads(found.read_text())]
    said = "\n".join(found.read_text()[-2000:] for found in tmp_path.rglob("std*.txt"))
    assert checks, said
    bad = [check for check in checks if check["status"] in ("FAILURE", "WARNING")]
    assert not bad, f"{bad}\n{said}"
    if revision == "extensions":
        assert finished.returncode == 0, said  # of the adapter, which used the tools through the product as well


_tokens: dict[str, str] = {}


def _token(product: Product) -> str:
    if product.url not in _tokens:
        _tokens[product.url] = product.api_token("admin", *EVERY_SCOPE)
    return _tokens[product.url]
