"""Run the public conformance suite against a server, and read what it found."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.product import ROOT

NPM = ROOT / "tests" / "npm" / "node_modules"
_PATIENCE_MILLISECONDS = 600_000
_SUITE = NPM / "@modelcontextprotocol" / "conformance"
_UNNAMED = re.compile(r"^server-|-\d{4}-\d\d-\d\dT[\d-]+Z$")


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


@dataclass(frozen=True)
class Played:
    """What the suite noted of one scenario that a client has played, and what the client said."""

    checks: list[dict[str, Any]]
    said: str


def program() -> list[str]:
    """The words that start the suite."""
    return [str(next(NPM.glob("node-linux-*/bin/node"))), str(_SUITE / "dist" / "index.js")]


def play(suite: str, *options: str, command: str, folder: Path, environment: dict[str, str]) -> dict[str, Played]:
    """Let a client play all scenarios of one of the suite's parts; the value is by their names.

    The suite starts a client for each at once: they wait for one another, so that none is as slow as all together.
    """
    folder.mkdir()
    words = ["client", "--suite", suite, *options, "--command", f"flock {folder / 'turn'} {command}"]
    patience = ["--timeout", str(_PATIENCE_MILLISECONDS), "-o", str(folder)]
    subprocess.run([*program(), *words, *patience], env=environment, capture_output=True, check=False)
    return {
        _UNNAMED.sub("", str(path.parent.relative_to(folder))): Played(
            json.loads(path.read_text()), "\n".join(said.read_text()[-2000:] for said in path.parent.glob("std*.txt"))
        )
        for path in folder.rglob("checks.json")
    }


def required_scenarios(revision: str) -> set[str]:
    """The names of those that a server of this revision must pass, as the suite froze them."""
    text = (_SUITE / "requirements" / f"{revision}.yaml").read_text()
    found = re.search(r"^server:\n((?:  - .*\n)+)", text, re.MULTILINE)
    assert found, "the suite's requirements have another form now"
    return {line.removeprefix("  - ") for line in found[1].splitlines()}


async def examine(url: str, revision: str, *, folder: Path) -> Findings:
    """Run what the revision requires of a server, and what it does not count, against this address."""
    words = [*program(), "server", "--url", url, "--requirements", revision]
    process = await asyncio.create_subprocess_exec(
        *words, "-o", str(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await process.communicate()
    checks = {}
    for path in folder.rglob("checks.json"):
        name = _UNNAMED.sub("", path.parent.name)
        checks[name] = Counter((check["id"], check["status"]) for check in json.loads(path.read_text()))
    return Findings(checks, said.decode())
