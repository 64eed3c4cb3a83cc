"""The product as people run it: a process of its own, its own data folder, a free loopback port."""

from __future__ import annotations

import atexit
import functools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .beside import ROOT, Beside

_PASSWORD = secrets.token_urlsafe(12)


@dataclass(frozen=True)
class Product:
    """A running product. `password` is that of both users: `admin` (superuser) and `alice`."""

    url: str
    environment: dict[str, str]
    log: Path
    beside: Beside
    password: str = _PASSWORD

    def manage(self, *arguments: str, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a management command beside it."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.environment, input=given, text=True, capture_output=True, check=check,
        )  # fmt: skip

    def run(self, code: str) -> str:
        """Run Python inside its Django and return what it prints."""
        return self.beside.run(code)

    def api_token(self, user: str, *scopes: str) -> str:
        """A fresh personal API token."""
        return self.run(_TOKEN.format(user=user, scopes=scopes))


def free_port() -> int:
    """A loopback port that nobody listens on at the moment.

    It is below those that the system hands out: nobody's outgoing connection can take it before its server starts.
    """
    while not port_is_free(port := 10_000 + secrets.randbelow(20_000)):
        pass
    return port


def port_is_free(port: int) -> bool:
    """Whether somebody could listen on this loopback port now."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@contextmanager
def running_product(folder: Path, *, workers: bool = False, **environment: str) -> Iterator[Product]:
    """Serve with a migrated database and two users, and stop again.

    Args:
        folder: For data and log.
        workers: Run all of `manage.py up` instead of the web process alone, which it would start like this.
        environment: Further settings.
    """
    port = free_port()
    url = f"http://localhost:{port}"
    data = folder / "data"
    log = folder / "product.log"
    settings = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")},
        "PUBLIC_URL": url, "DATA_DIR": str(data), "DEBUG": "true", "EGRESS_ALLOW": "localhost,127.0.0.1",
        "PYTHONUNBUFFERED": "1", "DJANGO_SETTINGS_MODULE": "mcp_oauth_site.settings", **environment,
    }  # fmt: skip
    shutil.copytree(_prepared(), data)
    serve = ["manage.py", "up"] if workers else ["-m", "mcp_oauth_site.serve"]
    command = [sys.executable, *serve, "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=settings, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_for(f"{url}/healthz", process=process, log=log)
        with closing(Beside(settings)) as beside:
            yield Product(url, settings, log, beside)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(url: str, *, process: subprocess.Popen[bytes], log: Path, seconds: float = 300) -> None:
    """Wait until something answers there with 200."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"nothing answers at {url}: {log.read_text()[-3000:]}")


@functools.cache
def _prepared() -> Path:
    """The data folder of which every product gets a copy: to prepare one takes longer than most tests."""
    folder = tempfile.mkdtemp(prefix="mcp-oauth-product-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": f"{folder}/data", "DEBUG": "true"}
    with closing(Beside(environment)) as beside:
        beside.run(_PREPARE.format(password=_PASSWORD))
    return Path(folder) / "data"


_PREPARE = """
from django.contrib.auth.models import User
from mcp_oauth_site.startup import prepare_site
prepare_site()
User.objects.create_superuser("admin", "admin@example.com", "{password}")
User.objects.create_user("alice", "alice@example.com", "{password}")
"""
_TOKEN = """
from django.contrib.auth.models import User
from django.utils import timezone
from connections.api_tokens import issue_api_token
user = User.objects.get(username="{user}")
print(issue_api_token(user, scopes={scopes}, name="program", now=timezone.now()).token.reveal())
"""
