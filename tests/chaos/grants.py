"""Connections whose tokens come from the strict server, made without signing in."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from subprocess import Popen
from sys import executable
from time import sleep
from typing import Any

from connections.models import Connection, McpServer, TokenSet
from oauthflow.protocol.secret import Secret

ROOT = Path(__file__).resolve().parent.parent.parent


@contextmanager
def strict_server(port: int, *, latency: float = 0.0, grace: float = 0.0) -> Iterator[str]:
    """Run the server in a process of its own; yields its origin."""
    command = [executable, "-m", "tests.chaos.strict_server", str(port)]
    process = Popen([*command, "--latency", str(latency), "--grace", str(grace)], cwd=ROOT)
    origin = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                seen(origin)
                break
            except OSError:
                sleep(0.05)
        yield origin
    finally:
        process.kill()
        process.wait()


def seen(origin: str) -> dict[str, Any]:
    """Ask the server what it saw."""
    with urllib.request.urlopen(origin, timeout=5) as answer:
        document: dict[str, Any] = json.load(answer)
    return document


def make_grants(origin: str, names: list[str], *, now: datetime, issuers: int = 1) -> list[Connection]:
    """Make a shared connection with tokens for each name, due now; the names are the families."""
    server, _ = McpServer.objects.get_or_create(slug="chaos", defaults={"name": "Chaos", "url": f"{origin}/mcp"})
    made = [Connection(server=server, label=name, status="active") for name in names]
    Connection.objects.bulk_create(made)
    tokens = []
    for number, connection in enumerate(made):
        issuer = f"{origin}/{number % issuers}"
        kept = TokenSet(
            connection=connection,
            obtained_at=now - timedelta(hours=1),
            expires_at=now + timedelta(minutes=1),
            refresh_due_at=now - timedelta(minutes=1),
            issuer=issuer,
            token_endpoint=f"{issuer}/token",
            client_id="us",
            auth_method="none",
        )
        kept.access_token_sealed = Secret(f"at-{connection.label}-0")
        kept.refresh_token_sealed = Secret(f"rt-{connection.label}-0")
        tokens.append(kept)
    TokenSet.objects.bulk_create(tokens)
    return made
