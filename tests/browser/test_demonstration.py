"""The main job as a new user would try it: the demonstration, in a real browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from tests.demonstration import Demonstration, running_demonstration

TOKEN_SECONDS = 4

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demonstration]:
    folder = tmp_path_factory.mktemp("demonstration")
    with running_demonstration(folder, token_seconds=TOKEN_SECONDS) as running:
        yield running


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


def test_the_command_that_is_printed_is_about_this_site(demonstration: Demonstration) -> None:
    printed = demonstration.log.read_text()
    assert f"PUBLIC_URL={demonstration.url} DATA_DIR={demonstration.data} .venv/bin/python manage.py call" in printed


def test_a_button_that_needs_a_script_is_not_there_without_one(demonstration: Demonstration, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, demonstration)
    page.goto(f"{demonstration.url}/servers/notes")
    expect(page.locator("button[data-copy]").first).to_be_attached()
    expect(page.locator("button[data-copy]").first).to_be_hidden()
    context.close()


class Notes:
    """The Notes server, as a program with an API token uses it."""

    def __init__(self, demonstration: Demonstration) -> None:
        self.api = f"{demonstration.url}/api/v1"
        token = demonstration.api_token("alice", "connections:read", "tools:call", "connections:write")
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
