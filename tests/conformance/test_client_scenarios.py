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

from .consent import ScriptedPerson

NPM = ROOT / "tests" / "npm" / "node_modules"
SCENARIOS = json.loads((Path(__file__).parent / "scenarios.json").read_text())
EVERY_SCOPE = (
    "servers:read", "servers:write", "connections:read", "connections:write", "tokens:release", "tools:call",
)  # fmt: skip

THROUGH_GATEWAY = {revision: SCENARIOS[revision] for revision in ("2026-07-28", "2025-11-25")}

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    metadata_url = "https://conformance-test.local/client-metadata.json"
    with running_product(tmp_path_factory.mktemp("product"), CLIENT_METADATA_URL=metadata_url) as running:
        yield running


@pytest.fixture(scope="module")
def environment(product: Product) -> dict[str, str]:
    """What the adapters are told. They share one session: a sign-in for each would be more than a site allows."""
    person = ScriptedPerson.sign_in(product.url, name="admin", password=product.password)
    return {
        **os.environ,
        "ADAPTER_SITE": product.url,
        "ADAPTER_TOKEN": product.api_token("admin", *EVERY_SCOPE),
        "ADAPTER_SESSION": json.dumps(person.session),
        "ADAPTER_CLIENT": person.register(),
    }


@pytest.mark.parametrize(
    ("revision", "scenario"),
    [(revision, scenario) for revision, names in SCENARIOS.items() for scenario in names],
)
def test_the_product_passes_the_scenario(
    environment: dict[str, str], tmp_path: Path, revision: str, scenario: str
) -> None:
    _require_pass("adapter.py", revision, scenario, environment=environment, folder=tmp_path)


@pytest.mark.parametrize(
    ("revision", "scenario"),
    [(revision, scenario) for revision, names in THROUGH_GATEWAY.items() for scenario in names],
)
def test_the_product_passes_the_scenario_through_its_gateway(
    environment: dict[str, str], tmp_path: Path, revision: str, scenario: str
) -> None:
    _require_pass("gateway_adapter.py", revision, scenario, environment=environment, folder=tmp_path)


def _require_pass(adapter: str, revision: str, scenario: str, *, environment: dict[str, str], folder: Path) -> None:
    node = next(NPM.glob("node-linux-*/bin/node"))
    suite = [str(node), str(NPM / "@modelcontextprotocol/conformance/dist/index.js"), "client"]
    command = f"{sys.executable} {ROOT / 'tests/conformance' / adapter}"
    # The extensions have no revision of their own.
    version = [] if revision == "extensions" else ["--spec-version", revision]
    finished = subprocess.run(
        [*suite, "--command", command, "--scenario", scenario, *version, "--timeout", "60000", "-o", str(folder)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    checks = [check for found in folder.rglob("checks.json") for check in json.loads(found.read_text())]
    said = "\n".join(found.read_text()[-2000:] for found in folder.rglob("std*.txt"))
    assert checks, said
    bad = [check for check in checks if check["status"] in ("FAILURE", "WARNING")]
    assert not bad, f"{bad}\n{said}"
    if revision == "extensions":
        assert finished.returncode == 0, said  # of the adapter, which used the tools through the product as well
