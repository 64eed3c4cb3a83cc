"""Both examples as processes of their own on free loopback ports, and people and programs that use them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.product import free_port

from .people import Person
from .programs import Program

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory, notes_port: int, sse_port: int) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["--port", str(port), "--data", str(tmp_path_factory.mktemp("authorization_server"))]
    options += ["--issuer", url, "--resource", f"http://127.0.0.1:{notes_port}/mcp"]
    options += ["--resource", f"http://127.0.0.1:{sse_port}/sse"]
    with _process("examples.authorization_server", options, ready=f"{url}/.well-known/oauth-authorization-server"):
        yield url


@pytest.fixture(scope="session")
def notes_port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def sse_port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def notes_url(tmp_path_factory: pytest.TempPathFactory, notes_port: int, issuer: str) -> Iterator[str]:
    origin = f"http://127.0.0.1:{notes_port}"
    options = ["--port", str(notes_port), "--data", str(tmp_path_factory.mktemp("notes_server")), "--issuer", issuer]
    # Without a cache a revocation is seen at once; test_introspection.py is about the cache.
    options += ["--introspection-cache-seconds", "0"]
    with _process("examples.notes_server", options, ready=f"{origin}/.well-known/oauth-protected-resource/mcp"):
        yield f"{origin}/mcp"


@pytest.fixture(scope="session")
def sse_url(tmp_path_factory: pytest.TempPathFactory, sse_port: int, issuer: str) -> Iterator[str]:
    origin = f"http://127.0.0.1:{sse_port}"
    options = ["--port", str(sse_port), "--data", str(tmp_path_factory.mktemp("sse_server")), "--issuer", issuer]
    options += ["--transport", "sse"]
    with _process("examples.notes_server", options, ready=f"{origin}/.well-known/oauth-protected-resource/sse"):
        yield f"{origin}/sse"


@pytest.fixture
def program(issuer: str, notes_port: int) -> Iterator[Program]:
    with httpx2.Client() as http:
        yield Program.registered(http, issuer=issuer, resource=f"http://127.0.0.1:{notes_port}/mcp")


@pytest.fixture
def person(issuer: str) -> Iterator[Person]:
    with httpx2.Client(headers={"Sec-Fetch-Site": "same-origin"}) as http:
        yield Person(http, issuer=issuer)


@contextmanager
def _process(module: str, options: list[str], *, ready: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", module, *options], cwd=_ROOT)
    try:
        with httpx2.Client(transport=httpx2.HTTPTransport(retries=6)) as http:
            assert http.get(ready).status_code == 200
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)
