"""The examples as the upstream of a running product: an authorization server and two protected Notes servers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import httpx2

from tests.examples.people import Person, hidden
from tests.product import ROOT, free_port, wait_for

TOKEN_SECONDS = 4


@dataclass(frozen=True)
class Upstream:
    """Where it is, and what a person does there."""

    issuer: str
    notes_url: str
    sse_url: str
    redirect_uri: str

    def allow(self, authorization_url: str) -> str:
        """Sign in as testuser, allow, and return the address that the browser is sent to."""
        with self._person() as person:
            return f"{self.redirect_uri}?{urlencode(person.allow(authorization_url))}"

    def take_back(self) -> int:
        """Revoke everything that testuser has granted; return how much that was."""
        with self._person() as person:
            page = person.sign_in(person.open(f"{self.issuer}/grants"))
            count = 0
            while 'name="grant"' in page.text:
                person.http.post(f"{self.issuer}/grants/revoke", data={"grant": hidden(page, "grant")})
                page, count = person.open(f"{self.issuer}/grants"), count + 1
            return count

    def opens(self, access_token: str) -> bool:
        """Say whether the Notes server takes a token."""
        headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/json, text/event-stream"}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        return httpx2.post(self.notes_url, json=message, headers=headers).status_code != 401

    @contextmanager
    def _person(self) -> Iterator[Person]:
        with httpx2.Client(headers={"Sec-Fetch-Site": "same-origin"}) as http:
            yield Person(http, issuer=self.issuer)


@contextmanager
def running_upstream(folder: Path, *, redirect_uri: str) -> Iterator[Upstream]:
    """Start the three processes; tokens live for `TOKEN_SECONDS` and a revocation is seen at once."""
    ports = [free_port() for _ in range(3)]
    issuer, notes, sse = (f"http://127.0.0.1:{port}" for port in ports)
    upstream = Upstream(issuer, f"{notes}/mcp", f"{sse}/sse", redirect_uri)
    server = ["--issuer", issuer, "--introspection-cache-seconds", "0"]
    with ExitStack() as stack:
        for port, module, options, ready in (
            (ports[0], "examples.authorization_server", _authorization_server(upstream), "oauth-authorization-server"),
            (ports[1], "examples.notes_server", server, "oauth-protected-resource/mcp"),
            (ports[2], "examples.notes_server", [*server, "--transport", "sse"], "oauth-protected-resource/sse"),
        ):
            command = [sys.executable, "-m", module, "--port", str(port), "--data", str(folder / str(port)), *options]
            url = f"http://127.0.0.1:{port}/.well-known/{ready}"
            stack.enter_context(running_program(command, ready=url, log=folder / f"{port}.log"))
        yield upstream


@contextmanager
def running_program(
    command: list[str], *, ready: str, log: Path, environment: dict[str, str] | None = None
) -> Iterator[None]:
    """Start a program, wait until it answers at `ready`, and end it afterwards."""
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(ready, process=process, log=log)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def _authorization_server(upstream: Upstream) -> list[str]:
    return [
        "--issuer", upstream.issuer, "--access-token-seconds", str(TOKEN_SECONDS),
        "--client-redirect-uri", upstream.redirect_uri,
        "--resource", upstream.notes_url, "--resource", upstream.sse_url,
    ]  # fmt: skip
