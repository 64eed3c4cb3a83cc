"""Measure our share of a whole authorization, from the start to stored tokens, over HTTP.

    python -m benchmarks.whole_flow [--latency 0,50] [--flows 40] [--database sqlite|postgresql --administration URL]

A flow is: start (for a server that is new to the site, with challenge, both metadata documents and dynamic
registration; or for one whose metadata and client are known), the person agrees, complete (token request, sealing,
storing, audit). The person's part is not timed, and the time that the provider took for its answers is taken off:
what is left is ours, with the transport to and from the provider.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.product import free_port

from .database import fresh_database
from .processes import cpu_seconds, running
from .site import running_site

_FILL = """
import json
from django.contrib.auth.models import User
from django.utils import timezone
from connections.api_tokens import issue_api_token
from connections.models import McpServer
user = User.objects.create_user("alice")
for n in range({count}):
    McpServer.objects.create(slug=f"s{{n}}", name=f"S {{n}}", url=f"{base}/m/{{n}}/mcp")
scopes = ["connections:read", "connections:write"]
issued = issue_api_token(user, scopes=scopes, name="benchmark", now=timezone.now())
print(json.dumps({{"token": issued.token.reveal()}}))
"""
_WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Flow:
    """One finished flow; `ours` and `whole` in milliseconds."""

    ours: float
    whole: float
    requests: int


class Caller:
    """A program that talks JSON to one address over one kept connection."""

    def __init__(self, port: int, *, host: str, token: str = "") -> None:
        self._connection = http.client.HTTPConnection(host, port)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"} if token else {}

    def ask(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """Return the answer's JSON, or its Location where it is a redirect; any other status ends the benchmark."""
        data = json.dumps(body) if body is not None else None
        self._connection.request(method, path, body=data, headers=self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != status:
            raise SystemExit(f"{method} {path}: {answer.status} {text[:500]!r}")
        return answer.headers["Location"] if status == 302 else json.loads(text)


def main() -> None:
    """Measure for each latency and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", default="0,50")
    parser.add_argument("--flows", type=int, default=40)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--administration", default="")
    options = parser.parse_args()
    print("| provider | server | requests to it | ours p50 ms (min–max) | p95 | whole p50 ms | CPU-ms a flow |")
    print("|---|---|---|---|---|---|---|")
    for latency in options.latency.split(","):
        _measure(latency, options)


def _measure(latency: str, options: argparse.Namespace) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        database = fresh_database(options.database, folder=folder, administration=options.administration)
        command = [sys.executable, "-m", "benchmarks.provider", str(port), latency]
        provider = running(command, environment=os.environ, log=folder / "provider.log", ready=f"{base}/tally")
        fill = _FILL.format(count=options.flows + _WARM_UP, base=base)
        with (
            database as chosen,
            provider,
            running_site(chosen, folder=folder, fill=fill, EGRESS_ALLOW="127.0.0.1") as site,
        ):
            ours = Caller(site.port, host="localhost", token=site.filled["token"])
            theirs = Caller(port, host="127.0.0.1")
            for kind, start in (("new", _start_new), ("known", _start_known)):
                for number in range(_WARM_UP):
                    _flow(ours, theirs, start, number)
                before = cpu_seconds(site.pid)
                flows = [_flow(ours, theirs, start, number + _WARM_UP) for number in range(options.flows)]
                _print(latency, kind, flows, cpu=(cpu_seconds(site.pid) - before) / len(flows) * 1000)


def _start_new(ours: Caller, number: int) -> Any:
    return ours.ask("POST", "/api/v1/oauth/initiate", {"server": f"s{number}", "manual": True})


def _start_known(ours: Caller, number: int) -> Any:
    made = ours.ask("POST", "/api/v1/connections", {"server": "s0", "label": f"{number}"}, status=201)
    return ours.ask("POST", "/api/v1/oauth/initiate", {"connection_id": made["id"], "manual": True})


def _flow(ours: Caller, theirs: Caller, start: Any, number: int) -> Flow:
    tally = theirs.ask("GET", "/tally")
    begun = time.perf_counter()
    started = start(ours, number)
    first = time.perf_counter() - begun
    link = urlsplit(started["authorization_url"])
    back = theirs.ask("GET", f"{link.path}?{link.query}", status=302)
    begun = time.perf_counter()
    finished = ours.ask("POST", "/api/v1/oauth/complete", {"state": started["state"], "redirect_url": back})
    whole = first + time.perf_counter() - begun
    after = theirs.ask("GET", "/tally")
    status = ours.ask("GET", f"/api/v1/connections/{finished['connection_id']}/status")
    if not status["has_valid_tokens"]:
        raise SystemExit(f"no tokens are stored: {status}")
    provider = after["seconds"] - tally["seconds"]
    return Flow((whole - provider) * 1000, whole * 1000, int(after["requests"] - tally["requests"]))


def _print(latency: str, kind: str, flows: Sequence[Flow], *, cpu: float) -> None:
    ours = sorted(flow.ours for flow in flows)
    whole = statistics.median(flow.whole for flow in flows)
    print(
        f"| {latency} ms | {kind} | {flows[0].requests} | {statistics.median(ours):.0f} ({ours[0]:.0f}–{ours[-1]:.0f})"
        f" | {ours[int(len(ours) * 0.95)]:.0f} | {whole:.0f} | {cpu:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
