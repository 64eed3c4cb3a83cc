"""The main job as a new user would try it: the demonstration, in a real browser."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.product import ROOT, free_port, wait_for

TOKEN_SECONDS = 4

pytestmark = pytest.mark.browser


@dataclass(frozen=True)
class Demonstration:
    """`manage.py demo`, running."""

    url: str
    upstream: str
    environment: dict[str, str]

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, text=True, capture_output=True, check=True)
        return done.stdout.strip()


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demonstration]:
    folder = tmp_path_factory.mktemp("demonstration")
    port, upstream = free_port(), _three_free_ports()
    log = folder / "demo.log"
    environment = {
        "PATH": "/usr/bin:/bin", "DATA_DIR": str(folder / "data"), "DEBUG": "true",
        "EGRESS_ALLOW": "localhost,127.0.0.1", "PUBLIC_URL": f"http://localhost:{port}",
    }  # fmt: skip
    ports = ["--port", str(port), "--upstream-port", str(upstream)]
    command = [sys.executable, "manage.py", "demo", *ports, "--access-token-seconds", str(TOKEN_SECONDS)]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        wait_for(f"http://localhost:{port}/healthz", process=process, log=log)
        wait_for(f"http://127.0.0.1:{upstream}/.well-known/oauth-authorization-server", process=process, log=log)
        _wait_until_listening(upstream + 1, process, log)
        yield Demonstration(f"http://localhost:{port}", f"http://127.0.0.1:{upstream}", environment)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def test_a_new_user_connects_and_stays_connected_until_the_grant_is_taken_back(
    demonstration: Demonstration, page: Page, tmp_path: Path
) -> None:
    sign_in(page, demonstration)
    connect_notes(page)
    expect(page.get_by_text("Connected").first).to_be_visible()
    notes = Notes(demonstration)

    written = notes.create("Hello", "World")
    assert written.status_code == 200, written.text
    assert not written.json().get("isError"), written.text

    time.sleep(TOKEN_SECONDS + 1)  # the token really has to run out: that is what is shown
    assert notes.create("Again", "later").status_code == 200

    take_the_grant_back(page, demonstration)
    time.sleep(TOKEN_SECONDS + 1)  # the resource server believes the token for its short rest
    refused = notes.create("After", "the end")
    assert (refused.status_code, refused.json()["error"]) == (409, "authorization_required")
    assert refused.json()["authorization_url"].startswith(demonstration.url)

    page.goto(f"{demonstration.url}/connections/")
    expect(page.get_by_text("Reconnect needed").first).to_be_visible()
    page.get_by_role("button", name="Reconnect").first.click()
    agree_upstream(page)
    expect(page.get_by_text("Connected").first).to_be_visible()
    assert notes.create("Back", "again").status_code == 200


class Notes:
    """The Notes server, as a program with an API token uses it."""

    def __init__(self, demonstration: Demonstration) -> None:
        scopes = ("connections:read", "tools:call", "connections:write")
        named = [word for scope in scopes for word in ("--scope", scope)]
        self.api = f"{demonstration.url}/api/v1"
        token = demonstration.manage("create_api_token", "alice", *named)
        self.headers = {"Authorization": f"Bearer {token}"}
        listed = requests.get(f"{self.api}/connections", headers=self.headers, timeout=30).json()
        found: list[dict[str, Any]] = listed["results"] if isinstance(listed, dict) else listed
        self.connection = next(entry["id"] for entry in found if entry["server"] == "notes")

    def create(self, title: str, content: str) -> requests.Response:
        return requests.post(
            f"{self.api}/connections/{self.connection}/tools/create_secure_note/call",
            json={"arguments": {"title": title, "content": content}}, headers=self.headers, timeout=60,
        )  # fmt: skip


def sign_in(page: Page, demonstration: Demonstration) -> None:
    page.goto(f"{demonstration.url}/")
    page.get_by_label("User name").or_(page.get_by_label("Username")).fill("alice")
    page.get_by_label("Password").fill("alice-demo")
    page.get_by_role("button", name="Sign in").click()


def connect_notes(page: Page) -> None:
    page.get_by_role("link", name="Connect Notes", exact=True).click()
    page.get_by_role("button", name="Continue").or_(page.get_by_role("button", name="Connect")).first.click()
    page.get_by_label("User name").fill("testuser")
    page.get_by_label("Password").fill("testpass")
    page.get_by_role("button", name="Sign in").click()
    agree_upstream(page)


def agree_upstream(page: Page) -> None:
    page.get_by_role("button", name="Allow").click()


def take_the_grant_back(page: Page, demonstration: Demonstration) -> None:
    page.goto(f"{demonstration.upstream}/grants")
    page.get_by_role("button", name="Revoke").first.click()


def _three_free_ports() -> int:
    """The first of three neighbours that nobody listens on; the others are tried by the demonstration itself."""
    return free_port()


def _wait_until_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            requests.post(f"http://127.0.0.1:{port}/mcp", timeout=5)
            return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())
