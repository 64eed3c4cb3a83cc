"""The public MCP conformance suite, its auth scenarios at every revision, against the running product."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.product import ROOT, Product, running_product

from .consent import ScriptedPerson
from .suite import Played, play
from .unattended import USED

SCENARIOS = json.loads((Path(__file__).parent / "scenarios.json").read_text())
EVERY_SCOPE = (
    "servers:read", "servers:write", "connections:read", "connections:write", "tokens:release", "tools:call",
)  # fmt: skip

# Where the suite has them.
_PARTS = {
    "2026-07-28": ("auth", "draft"), "2025-11-25": ("auth",), "2025-06-18": ("auth",), "2025-03-26": ("backcompat",),
    "extensions": ("extensions",),
}  # fmt: skip
EACH = [(revision, scenario) for revision, names in SCENARIOS.items() for scenario in names]

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


Scenarios = Callable[[str, str], dict[str, Played]]


@pytest.fixture(scope="module")
def played(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Scenarios:
    """Give all scenarios of a revision, played by an adapter when they are first asked for."""

    @functools.cache
    def played(adapter: str, revision: str) -> dict[str, Played]:
        command = f"{sys.executable} {ROOT / 'tests/conformance' / adapter}"
        # The extensions have no revision of their own.
        version = [] if revision == "extensions" else ["--spec-version", revision]
        found: dict[str, Played] = {}
        for part in _PARTS[revision]:
            folder = tmp_path_factory.mktemp(revision) / part
            found |= play(part, *version, command=command, folder=folder, environment=environment)
        return found

    return played


@pytest.mark.parametrize(("revision", "scenario"), EACH)
def test_the_product_passes_the_scenario(played: Scenarios, revision: str, scenario: str) -> None:
    found = played("adapter.py", revision)[scenario]
    _require_pass(found)
    if revision == "extensions":
        assert USED in found.said  # the tools, through the product as well


@pytest.mark.parametrize(("revision", "scenario"), EACH)
def test_the_product_passes_the_scenario_through_its_gateway(played: Scenarios, revision: str, scenario: str) -> None:
    _require_pass(played("gateway_adapter.py", revision)[scenario])


def _require_pass(found: Played) -> None:
    assert found.checks, found.said
    bad = [check for check in found.checks if check["status"] in ("FAILURE", "WARNING")]
    assert not bad, f"{bad}\n{found.said}"
