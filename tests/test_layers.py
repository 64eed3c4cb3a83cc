"""Who may import whom; the contracts stand in pyproject.toml."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import authserver.protocol
import gateway.messages
import oauthflow.protocol

ROOT = Path(__file__).parent.parent
_WITHOUT_DJANGO = """
import importlib, sys
class NoFramework:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"django", "rest_framework", "graphene", "celery", "connections", "audit"}:
            raise ImportError(f"{name} is out of reach")
sys.meta_path.insert(0, NoFramework())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_the_import_contracts_hold() -> None:
    program = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    finished = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-1000:]


def test_the_protocol_package_needs_no_framework() -> None:
    names = [
        f"{package.__name__}.{module.name}"
        for package in (oauthflow.protocol, authserver.protocol, gateway.messages)
        for module in pkgutil.iter_modules(package.__path__)
    ]
    assert len(names) > 10
    program = [sys.executable, "-c", _WITHOUT_DJANGO, *names]
    finished = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-1000:]
