"""The main job at a terminal without a browser: the link is opened elsewhere, its end is pasted."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.product import ROOT, Product

from .programs import Program
from .upstream import Upstream

NOTE = json.dumps({"title": "Hello", "content": "World"})
PERSON_NEEDED = 3


def test_an_operator_tells_the_main_story_at_a_terminal(
    product: Product, administrator: Program, program: Program, upstream: Upstream
) -> None:
    slug = administrator.configure(upstream.notes_url)
    early = product.manage("tools", slug, "--user", "alice", check=False)
    assert early.returncode == PERSON_NEEDED
    assert early.stdout.startswith(product.url)

    said = connect(product, slug, upstream=upstream)
    connection = said.strip().removesuffix(".").rpartition(" ")[2]
    assert connection == program.connection(slug, status=200)
    assert "create_secure_note" in product.manage("tools", slug, "--user", "alice").stdout
    assert call(product, slug)["structuredContent"]["title"] == "Hello"

    program.wait_until_expired(connection)
    assert call(product, slug)["structuredContent"]["title"] == "Hello"
    assert product.manage("refresh", connection).stdout.startswith("Refreshed")

    assert upstream.take_back() > 0
    refused = product.manage("call", slug, "create_secure_note", NOTE, "--user", "alice", check=False)
    assert refused.returncode == PERSON_NEEDED
    assert refused.stdout.startswith(product.url)
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "reauth_required" in product.manage("connections", "--user", "alice", "--server", slug).stdout

    connect(product, slug, upstream=upstream)
    assert call(product, slug)["structuredContent"]["title"] == "Hello"
    assert "Disconnected" in product.manage("revoke", connection, "--reason", "done").stdout
    assert "revoked" in product.manage("connections", "--server", slug).stdout
    assert upstream.take_back() == 0


def connect(product: Product, slug: str, *, upstream: Upstream) -> str:
    """Start the command, open the link that it prints, paste where that ended, and return what it says last."""
    command = [sys.executable, "manage.py", "connect", slug, "--user", "alice", "--no-browser"]
    with subprocess.Popen(
        command, cwd=ROOT, env=product.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as terminal:
        assert terminal.stdin
        assert terminal.stdout
        link = next(line.strip() for line in terminal.stdout if upstream.issuer in line)
        said, _ = terminal.communicate(f"{upstream.allow(link)}\n", timeout=60)
    assert terminal.returncode == 0, said
    return said


def call(product: Product, slug: str) -> dict[str, dict[str, str]]:
    done = product.manage("call", slug, "create_secure_note", NOTE, "--user", "alice")
    answer: dict[str, dict[str, str]] = json.loads(done.stdout)
    return answer
