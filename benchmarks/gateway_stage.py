"""What the benchmarks of the gateway share: a stub server, the site in front of it, nginx, and programs of others."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.product import free_port

from .database import Database, fresh_database
from .mcp_load import Target
from .processes import ROOT, running
from .site import Site, running_site

_USERS = 16
_FILL = """
import json, os
from datetime import timedelta
from django.contrib.auth.models import Group, User
from django.utils import timezone
from authserver.flows.issue_code import subject_of
from authserver.models import Consent, McpClient, TokenFamily
from authserver.protocol.opaque import new_marking_key
from authserver.resources import GATEWAY_SCOPE, gateway_resource
from authserver.tokens import mint_access_token, new_jti
from connections.models import Connection, McpServer, TokenSet
from gateway.models.policy import GroupPolicy, ServerPolicy
from oauthflow.protocol.secret import Secret
now = timezone.now()
program = McpClient.objects.create(client_id="program", grant_types=["authorization_code", "refresh_token"])
stub = McpServer.objects.create(slug="stub", name="Stub", url="STUB", gateway_enabled=True)
McpServer.objects.create(slug="sdk", name="SDK", url="SDK", auth_type="none", gateway_enabled=True)
tokens = {"stub": [], "sdk": []}
group = Group.objects.create(name="callers")
for server in McpServer.objects.all():
    policy = ServerPolicy.objects.create(server=server, tools="denied", tool_patterns="delete_*", blocks_changed=True)
    GroupPolicy.objects.create(policy=policy, group=group, calls_per_minute=1_000_000, response_bytes=1_000_000)
for number in range(USERS):
    user = User.objects.create_user(f"user{number}")
    user.groups.add(group)
    connection = Connection.objects.create(server=stub, user=user, status="active")
    held = TokenSet(connection=connection, obtained_at=now, expires_at=now + timedelta(days=1), scope="read",
                    resource=stub.url, issuer="https://as.example", token_endpoint="https://as.example/token",
                    client_id="c", auth_method="none")
    held.access_token_sealed = Secret("up-token")
    held.save()
    for slug, found in tokens.items():
        resource, subject = gateway_resource(slug), subject_of(user)
        consent = Consent.objects.create(user=user, client=program, redirect_uri="https://p.example/cb",
                                         scope=GATEWAY_SCOPE, resource=resource, fingerprint=f"{number}{slug}",
                                         granted_at=now)
        family = TokenFamily.objects.create(client=program, user=user, consent=consent, subject=subject,
                                            scope=GATEWAY_SCOPE, resource=resource, issued_at=now,
                                            expires_at=now + timedelta(days=90), marking_key=new_marking_key())
        found.append(mint_access_token(subject=subject, client_id="program", audience=resource, scope=GATEWAY_SCOPE,
                                       jti=new_jti(family.pk, os.urandom(16)), issued_at=int(now.timestamp()),
                                       seconds=3600))
print(json.dumps(tokens))
"""
_NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; client_max_body_size 1m; client_body_buffer_size 1m;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  map $http_authorization $exchanged {{ default ""; "Bearer in-token" "Bearer up-token"; }}
  upstream stub {{ server 127.0.0.1:{stub}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /healthz {{ return 200; }}
    location = /mcp {{
      if ($exchanged = "") {{ return 401; }}
      proxy_pass http://stub/guarded; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Authorization $exchanged; proxy_buffering off;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs. Of the site, `ours` leads to the stub and `before_sdk` to a server on the official SDK."""

    direct: Target
    nginx: Target
    ours: Target
    before_sdk: Target
    others: tuple[Target, ...]
    site: Site
    database: Database
    sdk_pid: int
    stub_pid: int


@contextmanager
def running_stage(
    kind: str,
    *,
    folder: Path,
    administration: str,
    others: Sequence[str] = (),
    mode: str = "modern",
    with_site: bool = False,
) -> Iterator[Stage]:
    """Start everything.

    Args:
        kind: Of database.
        folder: For files.
        administration: Of the PostgreSQL server.
        others: Commands that start a gateway of others and print a JSON object with `name`, `url`, `headers` and
            `pids` when it answers; `{upstream}` and `{port}` in them are filled in.
        mode: That of `Target`, for the stub, nginx and ours.
        with_site: Serve the gateway in a web process with everything else, and not in one of its own.
    """
    stub, sdk, port = free_port(), free_port(), free_port()
    upstream = f"http://127.0.0.1:{stub}"
    with ExitStack() as stack:
        stub_pid = stack.enter_context(_program("benchmarks.mcp_stub", stub, folder=folder, ready="/counters"))
        sdk_pid = stack.enter_context(_program("benchmarks.sdk_echo", sdk, folder=folder, ready="/healthz"))
        nginx_pid = stack.enter_context(_nginx(stub, port, folder=folder))
        database = stack.enter_context(fresh_database(kind, folder=folder, administration=administration))
        fill = _FILL.replace("STUB", f"{upstream}/guarded").replace('url="SDK"', f'url="http://127.0.0.1:{sdk}/mcp"')
        fill = fill.replace("USERS", str(_USERS))
        variables = {"EGRESS_ALLOW": "127.0.0.1", "DJANGO_SETTINGS_MODULE": "benchmarks.roomy_gateway"}
        flags = () if with_site else ("--gateway",)
        site = stack.enter_context(running_site(database, folder=folder, fill=fill, flags=flags, **variables))
        yield Stage(
            # Their calls are so short that as many as of the others would be over before anything can be measured.
            direct=Target("direct", f"{upstream}/mcp", mode=mode, pids=(stub_pid,), weight=5),
            nginx=Target(
                "nginx", f"http://127.0.0.1:{port}/mcp", ({"Authorization": "Bearer in-token"},), (nginx_pid,), mode,
                weight=5,
            ),
            ours=_ours(site, "stub", mode),
            before_sdk=_ours(site, "sdk", mode),
            others=tuple(stack.enter_context(_other(each, f"{upstream}/mcp")) for each in others),
            site=site, database=database, sdk_pid=sdk_pid, stub_pid=stub_pid,
        )  # fmt: skip


def _ours(site: Site, slug: str, mode: str) -> Target:
    headers = tuple({"Authorization": f"Bearer {token}"} for token in site.filled[slug])
    return Target(f"ours ({slug})", f"http://localhost:{site.port}/mcp/{slug}", headers, (site.pid,), mode)


@contextmanager
def _program(module: str, port: int, *, folder: Path, ready: str) -> Iterator[int]:
    command = [sys.executable, "-m", module, str(port)]
    url = f"http://127.0.0.1:{port}{ready}"
    with running(command, environment=os.environ, log=folder / f"{module}.log", ready=url) as process:
        yield process.pid


@contextmanager
def _nginx(stub: int, port: int, *, folder: Path) -> Iterator[int]:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise SystemExit("nginx is missing; install the package nginx")
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX.format(folder=folder, stub=stub, port=port))
    command = [program, "-c", str(configuration)]
    ready = f"http://127.0.0.1:{port}/healthz"
    with running(command, environment=os.environ, log=folder / "nginx.out", ready=ready) as process:
        yield process.pid


@contextmanager
def _other(command: str, upstream: str) -> Iterator[Target]:
    words = shlex.split(command.replace("{upstream}", upstream).replace("{port}", str(free_port())))
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = json.loads((process.stdout.readline() if process.stdout else "") or "null")
            if said is None:
                raise SystemExit(f"it printed no target: {command}")
            yield Target(
                said["name"], said["url"], (said.get("headers", {}),), tuple(said.get("pids", ())),
                said.get("mode", "stateless"), said.get("tool", "echo"), weight=said.get("calls", 0.02),
            )  # fmt: skip
        finally:
            process.send_signal(signal.SIGTERM)
