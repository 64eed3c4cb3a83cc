"""The Inspector's command line, as a person runs it: it prints an address, and waits for the browser."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.product import ROOT, free_port

NPM = ROOT / "tests" / "npm"
_PATIENCE_SECONDS = 240
_PRINTED = re.compile(r"Please navigate to: (\S+)\n")


@dataclass(frozen=True)
class Inspector:
    """What it keeps between calls, tokens too, lies in `folder`. `url` is that of the MCP server."""

    url: str
    folder: Path
    options: tuple[str, ...] = ()

    def sign_in(self, open_browser: Callable[[str], None], *words: str) -> dict[str, Any]:
        """Call a method; `open_browser` gets the address that is printed for the person."""
        log = self.folder / "said"
        with log.open("w") as said, self._start(*words, stderr=said) as process:
            try:
                open_browser(_printed(log, process))
                result, _ = process.communicate(timeout=_PATIENCE_SECONDS)
            finally:
                process.kill()
        assert process.returncode == 0, log.read_text()
        return _result(result)

    def call(self, *words: str) -> dict[str, Any]:
        """Call a method with the tokens of before, and nobody there to sign in."""
        code, result, error = self._unattended(*words)
        assert code == 0, error
        return _result(result)

    def refusal(self, *words: str) -> str:
        """What it says of a call that fails."""
        code, result, error = self._unattended(*words)
        assert code != 0, result
        return error

    def _unattended(self, *words: str) -> tuple[int, str, str]:
        with self._start(*words, "--stored-auth-only", stderr=subprocess.PIPE) as process:
            try:
                result, error = process.communicate(timeout=_PATIENCE_SECONDS)
            finally:
                process.kill()
        return process.returncode, result, error

    def _start(self, *words: str, stderr: Any) -> subprocess.Popen[str]:
        node = next(NPM.glob("node_modules/node-linux-*/bin/node"))
        program = (
            NPM / "node_modules" / "@modelcontextprotocol" / "inspector" / "clients" / "launcher" / "build" / "index.js"
        )
        command = [str(node), str(program), "--cli", self.url, "--transport", "http", "--format", "json"]
        environment = {
            "HOME": str(self.folder), "PATH": "/usr/bin:/bin", "MCP_INSPECTOR_SECRET_STORE": "file",
            "MCP_OAUTH_CALLBACK_URL": f"http://127.0.0.1:{free_port()}/oauth/callback",
            # Without a terminal it signs nobody in unless it may open a browser; this one opens nothing.
            "MCP_AUTO_OPEN_ENABLED": "true", "BROWSER": "true",
        }  # fmt: skip
        return subprocess.Popen(
            [*command, *self.options, *words, "--connect-timeout", "120000"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )


def _printed(log: Path, process: subprocess.Popen[str]) -> str:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := _PRINTED.search(log.read_text()):
            return found[1]
        time.sleep(0.2)
    raise AssertionError(f"it printed no address: {log.read_text()}")


def _result(text: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(text)["result"]
    return result
