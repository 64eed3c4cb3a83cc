"""The public MCP conformance suite against a server of the official SDK, and against our gateway in front of it.

The suite knows no authorization, so an injector stands in front of each and adds the token. Ours stands where a
reverse proxy would: the site's public address is its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.upstream import running_program
from tests.product import Product, free_port, running_product

from .consent import ScriptedPerson
from .injector import injecting
from .suite import Findings, examine, required_scenarios

pytestmark = pytest.mark.conformance
_KEY = "upstream-key"
_SERVER = """
from connections.models import McpServer
from oauthflow.protocol.secret import Secret
server = McpServer(slug="everything", name="Everything", url="{url}", auth_type="bearer", gateway_enabled=True)
server.static_credential_sealed = Secret("{key}")
server.save()
"""


@dataclass(frozen=True)
class Stage:
    """Ports of the server and of the site, the port that the site believes to be its own, and a token for it."""

    server: int
    site: int
    front: int
    token: str


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder, server, front = tmp_path_factory.mktemp("stage"), free_port(), free_port()
    command = [sys.executable, "-m", "tests.conformance.everything", str(server), _KEY]
    with (
        running_program(command, ready=f"http://127.0.0.1:{server}/healthz", log=folder / "everything.log"),
        running_product(folder, PUBLIC_URL=f"http://localhost:{front}") as product,
    ):
        product.run(_SERVER.format(url=f"http://127.0.0.1:{server}/mcp", key=_KEY))
        yield Stage(server, int(product.url.rpartition(":")[2]), front, _token(product, front))


def _token(product: Product, front: int) -> str:
    person = ScriptedPerson.sign_in(product.url, name="alice", password=product.password)
    return person.token(f"http://localhost:{front}/mcp/everything", client_id=person.register())


@pytest.mark.parametrize(("revision", "count"), [("2025-11-25", 30), ("2026-07-28", 37)])
async def test_the_gateway_scores_as_the_server_behind_it_does(
    stage: Stage, tmp_path: Path, revision: str, count: int
) -> None:
    async with injecting(_KEY, port=free_port(), to_port=stage.server) as origin:
        direct = await examine(f"{origin}/mcp", revision, folder=tmp_path / "direct")
    async with injecting(stage.token, port=stage.front, to_port=stage.site) as origin:
        behind = await examine(f"{origin}/mcp/everything", revision, folder=tmp_path / "behind")
    required = required_scenarios(revision)
    assert len(required) == count
    assert required <= direct.passed, direct.output
    assert required <= behind.passed, behind.output
    assert _differences(direct, behind) == {}, behind.output


def _differences(direct: Findings, behind: Findings) -> dict[str, object]:
    """Scenarios of which the suite has found something else, with what is found only directly and only behind us."""
    names = direct.checks.keys() | behind.checks.keys()
    pairs = {name: (direct.checks.get(name), behind.checks.get(name)) for name in names}
    return {name: (one, other) for name, (one, other) in pairs.items() if one != other}
