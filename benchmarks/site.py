"""The product as a target: its own keys, database and port, filled with what the benchmark asks for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.product import free_port

from .database import Database
from .processes import ROOT, running

_FILL = """
import json
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from connections.api_tokens import issue_api_token
from connections.models import Connection, McpServer, TokenSet
from oauthflow.protocol.secret import Secret
now = timezone.now()
user = User.objects.create_user("alice")
server = McpServer.objects.create(slug="notes", name="Notes", url="https://mcp.example/mcp")
ids = []
for n in range(100):
    connection = Connection.objects.create(server=server, user=user, label=f"{n}", status="active")
    tokens = TokenSet(connection=connection, obtained_at=now, expires_at=now + timedelta(days=1), scope="read",
                      resource="https://mcp.example/mcp", issuer="https://as.example",
                      token_endpoint="https://as.example/token", client_id="c", auth_method="none")
    tokens.access_token_sealed = Secret(f"upstream-{n}")
    tokens.save()
    ids.append(str(connection.pk))
token = issue_api_token(user, scopes=["tokens:release"], name="benchmark", now=now).token.reveal()
print(json.dumps({"token": token, "connections": ids}))
"""
_COUNT = """
from audit.chain import broken_links
from audit.models import AuditHead, AuditRecord
head = AuditHead.objects.get()
records = AuditRecord.objects.order_by("sequence").iterator()
broken = list(broken_links(records, head_sequence=head.sequence, head_mac=head.mac))
print(AuditRecord.objects.filter(event="token.released").count() if not broken else broken)
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A running web process. `filled` is what the fill script printed."""

    port: int
    pid: int
    environment: dict[str, str]
    filled: dict[str, Any]

    def recorded_releases(self) -> int:
        """Verify the whole audit chain and return how many releases are in it."""
        return int(shell(_COUNT, environment=self.environment))


@contextmanager
def running_site(
    database: Database, *, folder: Path, fill: str = _FILL, flags: Sequence[str] = (), **variables: str
) -> Iterator[Site]:
    """Migrate, fill, and run the web process alone; `flags` are its own."""
    port = free_port()
    environment = site_environment(folder, port=port, DATABASE_URL=database.url, **variables)
    manage("migrate", "-v0", environment=environment)
    manage("createcachetable", "-v0", environment=environment)
    filled = json.loads(shell(fill, environment=environment))
    command = [sys.executable, "-m", "mcp_oauth_site.serve", "--port", str(port), *flags]
    ready = f"http://localhost:{port}/healthz"
    with running(command, environment=environment, log=folder / "site.log", ready=ready) as process:
        yield Site(port, process.pid, environment, filled)


def site_environment(folder: Path, *, port: int, **variables: str) -> dict[str, str]:
    """Return the environment of a site as in production, on a loopback port."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    keys = subprocess.run(
        [sys.executable, "-m", "mcp_oauth_site.keys"], cwd=ROOT, env=kept, check=True, capture_output=True, text=True
    ).stdout
    named = dict(line.split("=", 1) for line in keys.splitlines() if "=" in line)
    unquoted = {name: value.strip("'") for name, value in named.items()}
    data = folder / f"data-{port}"
    return {**kept, **unquoted, "PUBLIC_URL": f"http://localhost:{port}", "DATA_DIR": str(data), **variables}


def manage(*arguments: str, environment: dict[str, str]) -> str:
    """Run a management command and return what it prints."""
    finished = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise SystemExit(f"manage.py {arguments[0]}: {finished.stderr[-2000:]}")
    return finished.stdout


def shell(program: str, *, environment: dict[str, str]) -> str:
    """Run a few lines inside of the site and return what they print."""
    return manage("shell", "-v0", "-c", program, environment=environment)
