"""Who may import whom; the contracts stand in pyproject.toml."""

from __future__ import annotations

import os
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
_ALL_ADDRESSES = """
import sys, django
django.setup()
import mcp_oauth_site.urls
print(sorted({"mcp", "mcp_types", "sqlalchemy"} & set(sys.modules)))
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


def test_a_start_loads_neither_the_mcp_sdk_nor_the_embedded_broker() -> None:
    """Together they take as long as all the rest, and more memory than anything else."""
    program = [sys.executable, "-c", _ALL_ADDRESSES]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    finished = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert finished.stdout.strip() == "[]", finished.stderr[-1000:]
