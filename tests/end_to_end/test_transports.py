"""Every transport and every kind of credential, listed and called through the product."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.product import free_port

from .programs import Program
from .upstream import Upstream, running_program

NOTES_TOOLS = {"get_user_profile", "create_secure_note", "list_secure_notes", "get_api_usage"}


@pytest.mark.parametrize("transport", ["streamable_http", "sse"])
def test_the_notes_server_is_used_over_http(
    administrator: Program, program: Program, upstream: Upstream, transport: str
) -> None:
    url = upstream.sse_url if transport == "sse" else upstream.notes_url
    connection = program.connection(administrator.configure(url, transport=transport))
    program.connect(connection, upstream=upstream)
    assert _tools(program, connection) == NOTES_TOOLS
    profile = program.call(connection, "get_user_profile").json()["structuredContent"]
    assert profile["subject"] == "testuser"


def test_the_notes_server_is_used_as_a_local_program(administrator: Program, program: Program, tmp_path: Path) -> None:
    slug = administrator.configure(
        transport="stdio", auth_type="none", command=sys.executable,
        arguments=["-m", "examples.notes_server", "--transport", "stdio", "--data", str(tmp_path)],
        environment={"NOTES_USER": "somebody"},
    )  # fmt: skip
    connection = program.connection(slug)
    assert program.get(f"connections/{connection}").json()["status"] == "active"
    assert _tools(program, connection) == NOTES_TOOLS
    assert program.note(connection, "Local").json()["structuredContent"]["title"] == "Local"
    profile = program.call(connection, "get_user_profile").json()["structuredContent"]
    assert profile["subject"] == "somebody"


@pytest.mark.parametrize(
    ("header", "value", "server"),
    [
        ("Authorization", "Bearer fixed-key", {"auth_type": "bearer"}),
        ("X-Api-Key", "fixed-key", {"auth_type": "header", "header_name": "X-Api-Key"}),
    ],
)
def test_a_server_with_a_fixed_credential_needs_no_person(
    administrator: Program, program: Program, tmp_path: Path, header: str, value: str, server: dict[str, str]
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "tests.end_to_end.keyed_server", str(port), header, value]
    url = f"http://127.0.0.1:{port}"
    with running_program(command, ready=f"{url}/healthz", log=tmp_path / "log"):
        right = administrator.configure(f"{url}/mcp", static_credential="fixed-key", **server)
        connection = program.connection(right)
        assert _tools(program, connection) == {"add"}
        assert program.call(connection, "add", a=2, b=3).json()["content"][0]["text"] == "5"

        wrong = administrator.configure(f"{url}/mcp", static_credential="another-key", **server)
        refused = program.get(f"connections/{program.connection(wrong)}/tools")
        assert refused.status_code == 502
        assert "another-key" not in refused.text


def _tools(program: Program, connection: str) -> set[str]:
    listed = program.get(f"connections/{connection}/tools")
    assert listed.status_code == 200, listed.text
    return {tool["name"] for tool in listed.json()["tools"]}
