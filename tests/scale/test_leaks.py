"""A web process that answers for a long time needs no more memory and no more files than after a while. F26.

`LEAK_REQUESTS=1000000` is the long form. Workers are watched by `benchmarks/long_run.py`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from benchmarks.processes import memory_mib, tree
from tests.faults import fault
from tests.product import Product, running_product

from .site import ask, eventually

pytestmark = [pytest.mark.scale, fault("F26")]

_REQUESTS = int(os.environ.get("LEAK_REQUESTS", "1800"))
_AT_ONCE = 4
# What a process may grow after its first third: caches of a process that is still young, and a million requests.
_MOST_MIB = 15 if _REQUESTS < 100_000 else 50

_SEED = """
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from connections.api_tokens import issue_api_token
from connections.models import Connection, McpServer, TokenSet
from oauthflow.protocol.secret import Secret
now, user = timezone.now(), User.objects.get(username="alice")
server = McpServer.objects.create(slug="notes", name="Notes", url="https://mcp.example/mcp")
connection = Connection.objects.create(server=server, user=user, status="active")
TokenSet.objects.create(connection=connection, obtained_at=now, expires_at=now + timedelta(days=90),
                        issuer="https://as.example", token_endpoint="https://as.example/token", client_id="c",
                        auth_method="none", access_token_sealed=Secret("access"))
issued = issue_api_token(user, scopes=["servers:read", "connections:read", "tokens:release"], name="p", now=now)
print(connection.pk, issued.token.reveal())
"""


def test_memory_and_open_files_stay_flat(tmp_path: Path) -> None:
    with running_product(tmp_path) as product:
        connection, token = product.run(_SEED).split()
        kinds = _kinds(product, connection, token)
        port = product.url.rpartition(":")[2].encode()
        (pid,) = (pid for pid in tree(os.getpid()) if _is_web(pid, port=port))
        first = _answers(kinds, _REQUESTS // 3)
        eventually(lambda: _open_files(pid) <= _AT_ONCE * 10 + 60, seconds=3)
        files, memory = _open_files(pid), memory_mib(pid)
        rest = _answers(kinds, _REQUESTS - _REQUESTS // 3)
        eventually(lambda: _open_files(pid) <= files + _AT_ONCE, seconds=3)
        grown = memory_mib(pid) - memory
    assert set(first + rest) == {200, 404}
    assert grown < _MOST_MIB


def _kinds(product: Product, connection: str, token: str) -> list[Callable[[], int]]:
    """Requests of every kind: without Django, through Django, a page, a mistake, GraphQL, a stream."""
    api, headers = f"{product.url}/api/v1", {"Authorization": f"Bearer {token}"}

    query = {"query": "{ mcpServers { edges { node { slug } } } }"}

    def stream() -> int:
        accept = headers | {"Accept": "text/event-stream"}
        with requests.get(f"{api}/events", headers=accept, stream=True, timeout=60) as answer:
            next(answer.iter_lines())
            return answer.status_code

    return [
        lambda: ask(f"{api}/connections/{connection}/token", method="POST", token=token, body={}).status,
        lambda: ask(f"{api}/connections/{connection}/status", token=token).status,
        lambda: ask(f"{api}/connections/nobody/status", token=token).status,
        lambda: ask(f"{product.url}/graphql", method="POST", token=token, body=query).status,
        lambda: requests.get(f"{product.url}/accounts/login/", timeout=60).status_code,
        stream,
    ]  # fmt: skip


def _answers(kinds: list[Callable[[], int]], count: int) -> Counter[int]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return Counter(pool.map(lambda number: kinds[number % len(kinds)](), range(count)))


def _is_web(pid: int, *, port: bytes) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"mcp_oauth_site.serve" in words and port in words


def _open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
