"""A Django of the site that waits for programs to run: starting one for each would cost seconds.

    python -m tests.beside

Reads programs as JSON strings, one in each line, and answers with a JSON list: what it printed, and what it raised.
"""

from __future__ import annotations

import contextlib
import contextvars
import io
import json
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Beside:
    """The one who asks; the Django starts with the first program."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {"DJANGO_SETTINGS_MODULE": "mcp_oauth_site.settings", **environment}
        self._process: subprocess.Popen[str] | None = None

    def run(self, program: str) -> str:
        """Run it and return what it prints."""
        self._process = self._process or subprocess.Popen(
            [sys.executable, "-m", "tests.beside"],
            cwd=ROOT, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(program)}\n")
        self._process.stdin.flush()
        printed, raised = json.loads(self._process.stdout.readline())
        assert not raised, raised
        return str(printed).strip()

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.communicate()


def main() -> None:
    """Run what comes, each with names and a context of its own."""
    import django

    django.setup()
    from django.db import connections

    for line in sys.stdin:
        printed, raised = io.StringIO(), ""
        try:
            with contextlib.redirect_stdout(printed):
                contextvars.copy_context().run(exec, json.loads(line), {})  # a test's own program
        except Exception:
            raised = traceback.format_exc()
        connections.close_all()
        print(json.dumps([printed.getvalue(), raised]), flush=True)


if __name__ == "__main__":
    main()
