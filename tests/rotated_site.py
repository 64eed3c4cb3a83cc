"""A site in processes of its own whose keys are rotated while others read: for a test, and for a benchmark."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from mcp_oauth_site.keys import new_keys

ROOT = Path(__file__).resolve().parent.parent
_POLL_SECONDS = 0.002

_FILL = """
import sys
from django.contrib.auth.models import User
from django.utils import timezone
from connections.models import Connection, McpServer, TokenSet
from mcp_oauth_site.canary import require_key_canary
from oauthflow.protocol.secret import Secret
require_key_canary()
user = User.objects.create_user("alice")
server = McpServer.objects.create(slug="notes", name="Notes", url="https://mcp.example/mcp")
padding = "x" * 1000
for start in range(0, int(sys.argv[1]), 1000):
    numbers = range(start, min(start + 1000, int(sys.argv[1])))
    made = [Connection(server=server, user=user, label=str(n), status="active") for n in numbers]
    tokens = []
    for connection in made:
        kept = TokenSet(connection=connection, obtained_at=timezone.now(), issuer="https://as.example",
                        token_endpoint="https://as.example/token", client_id="c", auth_method="none")
        kept.access_token_sealed = Secret(f"access-{connection.label}-{padding}")
        kept.refresh_token_sealed = Secret(f"refresh-{connection.label}")
        tokens.append(kept)
    Connection.objects.bulk_create(made)
    TokenSet.objects.bulk_create(tokens)
"""
_READ = """
import json, os, random, sys, time
from connections.models import TokenSet
from oauthflow.protocol.errors import SecretUnreadableError
padding = "x" * 1000
keys = list(TokenSet.objects.values_list("pk", flat=True))
reads = failed = 0
print("reading", flush=True)
while not os.path.exists(sys.argv[1]):
    kept = TokenSet.objects.select_related("connection").get(pk=random.choice(keys))
    reads += 1
    try:
        opened = kept.access_token_sealed.reveal().reveal()[:20], kept.refresh_token_sealed.reveal().reveal()
        number = kept.connection.label
        failed += opened != (f"access-{number}-{padding}"[:20], f"refresh-{number}")
    except SecretUnreadableError:
        failed += 1
    time.sleep(float(sys.argv[2]))
print(json.dumps([reads, failed]))
"""
_ROW = b"SELECT access_token_sealed FROM connections_tokenset ORDER BY id LIMIT 1 OFFSET %s"
_START = "from mcp_oauth_site.canary import require_key_canary\nrequire_key_canary()"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of one run. Seconds are those of the rotation's processes, with their starts."""

    rows: int
    kills: int
    seconds: float
    reads: int
    failed_reads: int
    summary: str


@dataclass(slots=True)
class RotatedSite:
    """One database and two keys; each process is told which it has."""

    url: str
    folder: Path
    old: str = field(default_factory=lambda: new_keys().field_encryption_key[0])
    new: str = field(default_factory=lambda: new_keys().field_encryption_key[0])
    _variables: dict[str, str] = field(default_factory=lambda: new_keys().as_variables())

    def run(self, *command: str, keys: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments as a host with these keys."""
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=self.environment(keys),
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, keys: Sequence[str]) -> str:
        """Return why a start with these keys is refused, or nothing."""
        return self.run("-c", _in_django(_START), keys=keys).stderr.strip().rpartition("\n")[2]

    def fill(self, rows: int) -> None:
        """Migrate, start for the first time, and store this many grants, all sealed with the old key."""
        for command in (("manage.py", "migrate", "-v0"), ("-c", _in_django(_FILL), str(rows))):
            finished = self.run(*command, keys=[self.old])
            if finished.returncode:
                raise RuntimeError(finished.stderr)

    def rotate_under_kills(self, *, rows: int, kills_at: Sequence[float], pause: float = 0.0) -> Outcome:
        """Rotate, killing the rotation each time it has reached one of these parts, with two readers all the while."""
        stop = self.folder / "stop"
        readers = [self._reader(keys, stop, pause) for keys in ((self.new, self.old), (self.old, self.new))]
        begun = time.monotonic()
        killed = sum(self._rotate_until(int(rows * part)) for part in kills_at)
        last = self.run("manage.py", "rotate_encryption_keys", keys=[self.new, self.old])
        seconds = time.monotonic() - begun
        stop.touch()
        counted = [json.loads(reader.communicate()[0].splitlines()[-1]) for reader in readers]
        return Outcome(
            rows,
            killed,
            seconds,
            sum(one[0] for one in counted),
            sum(one[1] for one in counted),
            last.stdout + last.stderr,
        )

    def environment(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the environment of a process."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        named = {
            "DATA_DIR": str(self.folder / "data"),
            "DATABASE_URL": self.url,
            "FIELD_ENCRYPTION_KEY": ",".join(keys),
        }
        return kept | self._variables | named | {"DJANGO_SETTINGS_MODULE": "mcp_oauth_site.settings"}

    def _reader(self, keys: Sequence[str], stop: Path, pause: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _in_django(_READ), str(stop), str(pause)]
        process = subprocess.Popen(command, cwd=ROOT, env=self.environment(keys), stdout=subprocess.PIPE, text=True)
        if process.stdout is None or process.stdout.readline() != "reading\n":
            raise RuntimeError("the reader does not read")
        return process

    def _rotate_until(self, position: int) -> bool:
        """Begin to rotate; kill with SIGKILL as soon as the row at this position is sealed anew; say whether it was."""
        before = self._sealed_at(position)
        command = [sys.executable, "manage.py", "rotate_encryption_keys"]
        process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment([self.new, self.old]), stdout=subprocess.DEVNULL
        )
        while process.poll() is None and self._sealed_at(position) == before:
            time.sleep(_POLL_SECONDS)
        process.kill()
        return process.wait() == -signal.SIGKILL

    def _sealed_at(self, position: int) -> str:
        if self.url.startswith("sqlite"):
            path = urlsplit(self.url).path.removeprefix("/")
            with closing(sqlite3.connect(path, timeout=20)) as connection:
                return str(connection.execute(_ROW.decode().replace("%s", "?"), [position]).fetchone()[0])
        with psycopg.connect(self.url) as connection:
            row = connection.execute(_ROW, [position]).fetchone()
            return str(row[0]) if row else ""


@contextmanager
def rotated_site(*, folder: Path, administration: str = "") -> Iterator[RotatedSite]:
    """Give a site on a file, or on a database of its own of the PostgreSQL server that `administration` leads to."""
    if not administration:
        yield RotatedSite(f"sqlite:///{folder}/site.sqlite3", folder)
        return
    name = f"rotation_{secrets.token_hex(6)}"
    server = _named(administration, "postgres")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield RotatedSite(_named(administration, name), folder)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _named(url: str, database: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/{database}?{parts.query}"


def _in_django(script: str) -> str:
    return f"import django\ndjango.setup()\n{script}"
