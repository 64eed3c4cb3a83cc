"""Run the public conformance suite against a server, and read what it found."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.product import ROOT

NPM = ROOT / "tests" / "npm" / "node_modules"
_SUITE = NPM / "@modelcontextprotocol" / "conformance"


@dataclass(frozen=True)
class Findings:
    """Of each scenario how often each of its checks had which status, and those scenarios that no check speaks against.

    `output` is what the suite printed.
    """

    checks: dict[str, Counter[tuple[str, str]]]
    output: str

    @property
    def passed(self) -> set[str]:
        """Scenarios without a failure; those whose requirements do not count are among them."""
        return {name for name, found in self.checks.items() if "FAILURE" not in {status for _, status in found}}


def required_scenarios(revision: str) -> set[str]:
    """The names of those that a server of this revision must pass, as the suite froze them."""
    text = (_SUITE / "requirements" / f"{revision}.yaml").read_text()
    found = re.search(r"^server:\n((?:  - .*\n)+)", text, re.MULTILINE)
    assert found, "the suite's requirements have another form now"
    return {line.removeprefix("  - ") for line in found[1].splitlines()}


async def examine(url: str, revision: str, *, folder: Path) -> Findings:
    """Run what the revision requires of a server, and what it does not count, against this address."""
    node = next(NPM.glob("node-linux-*/bin/node"))
    words = [str(node), str(_SUITE / "dist" / "index.js"), "server", "--url", url, "--requirements", revision]
    process = await asyncio.create_subprocess_exec(
        *words, "-o", str(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await process.communicate()
    checks = {}
    for path in folder.rglob("checks.json"):
        name = re.sub(r"^server-|-\d{4}-\d\d-\d\dT[\d-]+Z$", "", path.parent.name)
        checks[name] = Counter((check["id"], check["status"]) for check in json.loads(path.read_text()))
    return Findings(checks, said.decode())
