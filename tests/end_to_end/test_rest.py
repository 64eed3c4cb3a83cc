"""The main job by REST, without a browser: connect, call, run out, call, taken back, reconnect, disconnect."""

from __future__ import annotations

import pytest

from tests.requirements import requirement

from .programs import Browser, Program
from .upstream import Upstream


def test_a_program_connects_by_hand_and_stays_connected_until_the_grant_is_taken_back(
    administrator: Program, program: Program, upstream: Upstream
) -> None:
    connection = program.connection(administrator.configure(upstream.notes_url))
    before = program.note(connection, "too early")
    assert before.status_code == 409
    assert before.json()["error"] == "authorization_required"

    finished = program.connect(connection, upstream=upstream)
    assert finished["status"] == "completed"
    assert finished["connection_id"] == connection
    tools = program.get(f"connections/{connection}/tools").json()["tools"]
    assert "create_secure_note" in {tool["name"] for tool in tools}
    assert program.note(connection, "Hello").json()["structuredContent"]["title"] == "Hello"

    program.wait_until_expired(connection)
    assert program.note(connection, "Again").status_code == 200
    assert program.get(f"connections/{connection}").json()["last_refreshed_at"]

    assert upstream.take_back() > 0
    refused = program.note(connection, "After the end")
    assert refused.status_code == 409, refused.text
    assert refused.json()["error"] == "authorization_required"
    assert refused.json()["requires_reauthorization"]
    assert refused.json()["authorization_url"].startswith(program.url)
    assert program.get(f"connections/{connection}").json()["status"] == "reauth_required"

    assert program.connect(connection, upstream=upstream)["status"] == "completed"
    assert program.note(connection, "Back").status_code == 200


def test_the_link_of_a_409_reconnects_in_a_browser(
    administrator: Program, program: Program, browser: Browser, upstream: Upstream
) -> None:
    connection = program.connection(administrator.configure(upstream.notes_url))
    refused = program.call(connection, "get_user_profile").json()
    browser.walk(refused["authorization_url"], upstream=upstream)
    status = program.get(f"oauth/status/{refused['state']}").json()
    assert status["status"] == "completed"
    assert status["connection_id"] == connection
    profile = program.call(connection, "get_user_profile").json()["structuredContent"]
    assert profile["subject"] == "testuser"


@requirement("S-07", "S-08")
def test_a_tool_that_wants_more_scope_leads_to_a_link_that_adds_it(
    administrator: Program, program: Program, browser: Browser, upstream: Upstream
) -> None:
    connection = program.connection(administrator.configure(upstream.notes_url, scopes="notes:read offline_access"))
    program.connect(connection, upstream=upstream)
    assert program.call(connection, "list_secure_notes").status_code == 200
    refused = program.note(connection, "More")
    assert refused.status_code == 409, refused.text

    browser.walk(refused.json()["authorization_url"], upstream=upstream)
    assert program.note(connection, "More").json()["structuredContent"]["title"] == "More"
    assert program.call(connection, "list_secure_notes").status_code == 200
    granted = program.get(f"connections/{connection}").json()["granted_scopes"]
    assert granted == "notes:read notes:write offline_access"


def test_a_released_token_opens_the_server_and_a_disconnect_ends_it_there(
    administrator: Program, program: Program, upstream: Upstream
) -> None:
    connection = program.connection(administrator.configure(upstream.notes_url))
    program.connect(connection, upstream=upstream)
    released = program.post(f"connections/{connection}/token")
    assert released.json()["token_type"] == "Bearer"
    assert released.json()["resource"] == upstream.notes_url
    assert "no-store" in released.headers["Cache-Control"]

    refreshed = program.post(f"connections/{connection}/refresh")
    assert refreshed.status_code == 200
    again = program.post(f"connections/{connection}/token").json()
    assert again["access_token"] != released.json()["access_token"]

    assert program.delete(f"connections/{connection}").status_code == 204
    assert program.get(f"connections/{connection}").status_code == 404
    assert upstream.opens(again["access_token"]) is False


@pytest.mark.parametrize("registration", ["dynamic", "pre_registered"])
def test_a_server_is_connected_with_either_kind_of_client(
    administrator: Program, program: Program, upstream: Upstream, registration: str
) -> None:
    client = {"client_id": "mcp-test-client", "client_secret": "mcp-test-secret"}
    entered = client if registration == "pre_registered" else {}
    slug = administrator.configure(upstream.notes_url, registration=registration, **entered)
    connection = program.connection(slug)
    program.connect(connection, upstream=upstream)
    assert program.get(f"connections/{connection}").json()["registration_method"] == registration
    caller = program.call(connection, "get_user_profile").json()["structuredContent"]["client_id"]
    assert (caller == "mcp-test-client") is (registration == "pre_registered")
