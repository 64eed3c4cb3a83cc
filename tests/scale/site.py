"""The processes of deploy/ on one machine: two web, two worker, one beat, each as on a host of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery import Celery

from mcp_oauth_site.keys import new_keys
from tests.beside import Beside
from tests.product import ROOT, free_port, wait_for

from .authorization_server import TokenEndpoint, token_endpoint
from .services import PrivatePostgresql, PrivateRedis, private_postgresql

_PATIENCE = 20


@dataclass(frozen=True)
class Answer:
    """Status and body of an answer."""

    status: int
    body: dict[str, Any]


@dataclass
class Site:
    """The running site.

    Attributes:
        webs: Addresses of its web processes.
        database: PostgreSQL of its own; None on SQLite.
        shared_data: The one DATA_DIR of all processes, with SQLite; otherwise each has its own.
    """

    folder: Path
    environment: dict[str, str]
    webs: list[str]
    redis: PrivateRedis
    upstream: TokenEndpoint
    database: PrivatePostgresql | None = None
    shared_data: Path | None = None
    logs: dict[str, Path] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _beside: Beside = field(init=False)

    def __post_init__(self) -> None:
        self._beside = Beside(self.environment_of("beside"))

    def environment_of(self, name: str) -> dict[str, str]:
        """The variables of one process of the site."""
        return self.environment | {"DATA_DIR": str(self.shared_data or self.folder / name)}

    def run(self, code: str) -> str:
        """Run Python inside the site's Django and return what it prints."""
        return self._beside.run(code)

    def stop(self) -> None:
        """Tell all processes at once to stop; each is waited for by who started it."""
        for process in self.processes.values():
            process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End what `run` started."""
        self._beside.close()

    def seed(self, name: str, *, connections: int = 1, due: bool = False) -> tuple[str, list[str]]:
        """Make a person with connections; return an API token with all rights and the connections' ids."""
        text = self.run(_SEED.format(name=name, count=connections, due=due, upstream=self.upstream.url))
        token, *ids = text.splitlines()[-1].split()
        return token, ids

    def send_tasks(self, name: str, *, times: int = 1) -> None:
        """Put messages for workers into the broker."""
        with Celery(broker=self.redis.url) as app:
            for _ in range(times):
                app.send_task(name, ignore_result=True)

    @contextmanager
    def role(self, role: str, name: str, *, port: int = 0, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start one more process, or with an empty role all of them."""
        log = self.logs[name] = self.folder / f"{name}.log"
        options = [*(["--only", role] if role else []), *(["--port", str(port)] if port else [])]
        arguments = [sys.executable, "manage.py", "up", *options]
        environment = self.environment_of(name) | variables
        with log.open("w") as output:
            process = subprocess.Popen(
                arguments, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.processes[name] = process
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def ask(url: str, *, method: str = "GET", token: str = "", body: object = None) -> Answer:
    """Send a request and return the answer, whatever its status."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return Answer(answer.status, json.loads(answer.read() or b"{}"))
    except urllib.error.HTTPError as error:
        return Answer(error.code, json.loads(error.read() or b"{}"))


def eventually(condition: Callable[[], bool], *, seconds: float) -> None:
    """Look again and again until it holds; fail long after the seconds that it should take at most.

    The machine is shared: how long it takes is told where it is measured, here counts that it happens.
    """
    deadline = time.monotonic() + _PATIENCE * seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {_PATIENCE} times {seconds} s"
        time.sleep(0.02)


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Start everything and stop it again."""
    ports = [free_port(), free_port()]
    redis = PrivateRedis(folder)
    with ExitStack() as stack:
        upstream = stack.enter_context(token_endpoint())
        database = stack.enter_context(private_postgresql())
        redis.start()
        stack.callback(redis.stop)
        environment = _environment(ports[0], DATABASE_URL=database.url, REDIS_URL=redis.url)
        site = Site(folder, environment, [f"http://localhost:{port}" for port in ports], redis, upstream, database)
        stack.enter_context(closing(site))
        started = {
            name: stack.enter_context(site.role(role, name, port=port))
            for role, name, port in (
                ("web", "web-1", ports[0]), ("web", "web-2", ports[1]),
                ("worker", "worker-1", 0), ("worker", "worker-2", 0), ("beat", "beat", 0),
            )
        }  # fmt: skip
        stack.callback(site.stop)
        for name, url in zip(("web-1", "web-2"), site.webs, strict=True):
            wait_for(f"{url}/healthz", process=started[name], log=site.logs[name], seconds=300)
        for name in ("worker-1", "worker-2"):
            eventually(lambda name=name: "ready" in site.logs[name].read_text(), seconds=300)
        yield site


@contextmanager
def running_on_sqlite(
    folder: Path, *, only: tuple[str, ...] = (), redis_is_away: bool = False, **variables: str
) -> Iterator[Site]:
    """Start `manage.py up` as on one machine, or these of its roles alone, and stop it again.

    With `redis_is_away` it is to use the Redis of the site, which is not started: no worker is waited for.
    """
    port = free_port()
    url = f"http://localhost:{port}"
    started = {role: role for role in only} or {"all": ""}
    web, worker = ("web", "worker") if only else ("all", "all")
    with token_endpoint() as upstream, ExitStack() as stack:
        redis = PrivateRedis(folder)
        stack.callback(redis.stop)
        if redis_is_away:
            variables["REDIS_URL"] = redis.url
        environment = _environment(port, **variables)
        site = Site(folder, environment, [url], redis, upstream, shared_data=folder / "data")
        stack.enter_context(closing(site))
        for name, role in started.items():
            stack.enter_context(site.role(role, name, port=port))
        wait_for(f"{url}/healthz", process=site.processes[web], log=site.logs[web], seconds=300)
        if not redis_is_away:
            eventually(lambda: "ready" in site.logs[worker].read_text(), seconds=300)
        yield site


@contextmanager
def running_web(folder: Path) -> Iterator[Site]:
    """Start one web process on a PostgreSQL of its own, without Redis, and stop it again."""
    port = free_port()
    with token_endpoint() as upstream, private_postgresql() as database, ExitStack() as stack:
        environment = _environment(port, DATABASE_URL=database.url)
        site = Site(folder, environment, [f"http://localhost:{port}"], PrivateRedis(folder), upstream, database)
        stack.enter_context(closing(site))
        process = stack.enter_context(site.role("web", "web", port=port))
        wait_for(f"{site.webs[0]}/healthz", process=process, log=site.logs["web"], seconds=300)
        yield site


def _environment(port: int, **variables: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")},
        **new_keys().as_variables(),
        "PUBLIC_URL": f"http://localhost:{port}", "EGRESS_ALLOW": "127.0.0.1", "PYTHONUNBUFFERED": "1", **variables,
    }  # fmt: skip


_SEED = """
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from connections.api_tokens import issue_api_token
from connections.models import Connection, McpServer, TokenSet
from oauthflow.protocol.secret import Secret
now, due = timezone.now(), {due}
user = User.objects.create_user("{name}")
server = McpServer.objects.create(
    name="{name}", slug="{name}", url="{upstream}/mcp", auth_type="oauth", client_id="us", registration="pre_registered"
)
server.users.add(user)
ids = []
for number in range({count}):
    connection = Connection.objects.create(
        server=server, user=user, label=f"c{{number}}", status="active", issuer="{upstream}"
    )
    ids.append(str(connection.pk))
    TokenSet.objects.create(
        connection=connection, access_token_sealed=Secret(f"access-{name}-{{number}}"),
        refresh_token_sealed=Secret(f"refresh-{name}-{{number}}"), obtained_at=now, issuer="{upstream}",
        expires_at=now + timedelta(minutes=10 if due else 120),
        refresh_due_at=now - timedelta(seconds=1) if due else now + timedelta(minutes=100),
        token_endpoint="{upstream}/token", revocation_endpoint="{upstream}/revoke", client_id="us", auth_method="none",
    )
scopes = ["connections:read", "connections:write", "tokens:release"]
print(issue_api_token(user, scopes=scopes, name="program", now=now).token.reveal(), *ids)
"""
