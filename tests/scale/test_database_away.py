"""While the database is gone every face says 503 and when to come back, and none of them 500."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from pathlib import Path

import pytest

from tests.faults import fault

from .site import eventually, running_web

pytestmark = pytest.mark.scale
_SESSION = """
from importlib import import_module
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client
user = get_user_model().objects.create_superuser("root", email="", password=None)
client = Client()
client.force_login(user)
print(client.cookies[settings.SESSION_COOKIE_NAME].value)
"""
_QUERY = {"query": "{ mcpServers { edges { node { name } } } }"}


def _ask(url: str, body: object, headers: dict[str, str]) -> tuple[int, Message, str]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read(20_000).decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


@fault("F07")
def test_every_face_asks_to_come_back_while_the_database_is_gone(tmp_path: Path) -> None:
    with running_web(tmp_path) as site:
        (web,), database = site.webs, site.database
        assert database is not None
        token, (connection,) = site.seed("away")
        cookie = {"Cookie": f"sessionid={site.run(_SESSION)}"}
        bearer = {"Authorization": f"Bearer {token}"}
        calls: list[tuple[str, object, dict[str, str]]] = [
            ("/connections/", None, cookie),
            ("/admin/", None, cookie),
            ("/admin/connections/mcpserver/", None, cookie),
            ("/accounts/", None, cookie),
            ("/api/v1/connections", None, bearer),
            (f"/api/v1/connections/{connection}/token", {}, bearer),
            (f"/api/v1/connections/{connection}/refresh", {}, bearer),
            ("/api/v1/events", None, bearer),
            ("/graphql", _QUERY, bearer),
            ("/graphql/stream", _QUERY, bearer),
        ]
        before = {path: _ask(web + path, body, headers)[0] for path, body, headers in calls}
        assert set(before.values()) == {200}, before
        database.stop()
        with ThreadPoolExecutor(len(calls)) as callers:
            answers = list(callers.map(lambda call: _ask(web + call[0], call[1], call[2]), calls))
        for (path, _, _), (status, said, text) in zip(calls, answers, strict=True):
            assert (path, status, said.get("Retry-After")) == (path, 503, "5")
            if path.startswith("/api/"):
                assert json.loads(text)["error"] == "temporarily_unavailable"
        assert _ask(f"{web}/readyz", None, {})[0] == 503
        time.sleep(28)  # so long that whoever doubled its pauses would sleep for as long again
        database.start_again()
        began = time.monotonic()
        for path, body, headers in calls:
            eventually(lambda call=(web + path, body, headers): _ask(*call)[0] == 200, seconds=5)
        assert time.monotonic() - began < 15
