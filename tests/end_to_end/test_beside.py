"""The Python API in a process of its own beside the running site, on the same database."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.product import ROOT, Product

from .programs import Browser, Program
from .upstream import Upstream


def test_code_beside_the_site_uses_what_a_person_connected(
    product: Product, administrator: Program, browser: Browser, upstream: Upstream
) -> None:
    slug = administrator.configure(upstream.notes_url)
    first = _run(product, slug)
    assert first["authorization_url"].startswith(product.url)
    assert first["reason"] == ""
    browser.walk(first["authorization_url"], upstream=upstream)

    done = _run(product, slug)
    assert "create_secure_note" in done["tools"]
    assert (done["title"], done["subject"]) == ("Beside", "testuser")

    assert upstream.take_back() > 0
    again = _run(product, slug)
    assert again["reason"], again
    browser.walk(again["authorization_url"], upstream=upstream)
    assert _run(product, slug)["subject"] == "testuser"


def _run(product: Product, slug: str) -> dict[str, str]:
    environment = {**product.environment, "DJANGO_SETTINGS_MODULE": "mcp_oauth_site.settings"}
    command = [sys.executable, "-m", "tests.end_to_end.beside", slug, "alice"]
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, str] = json.loads(done.stdout)
    return said
