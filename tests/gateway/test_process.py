"""The gateway as a process of its own, and how what is served is written."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from asgiref.testing import ApplicationCommunicator
from pytest_django import Settings

from mcp_oauth_site.joined_writes import JoinedWrites
from mcp_oauth_site.root import build_gateway


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/", 404), ("/admin/login/", 404), ("/mcp", 404)])
async def test_a_process_of_its_own_serves_nothing_else(path: str, status: int) -> None:
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [],
        "scheme": "http", "root_path": "",
    }  # fmt: skip
    talk = ApplicationCommunicator(build_gateway(), scope)
    await talk.send_input({"type": "http.request"})
    assert (await talk.receive_output())["status"] == status


@pytest.mark.parametrize(("said", "scheme"), [("ws", "http"), ("wss", "https"), ("https", "https")])
async def test_what_a_proxy_says_of_a_scheme_is_one_of_http(settings: Settings, said: str, scheme: str) -> None:
    settings.TRUSTED_PROXIES = ("127.0.0.1",)
    scope = {
        "type": "http", "method": "POST", "path": "/mcp/files", "raw_path": b"/mcp/files", "query_string": b"",
        "headers": [(b"x-forwarded-proto", said.encode())], "scheme": "http", "root_path": "",
        "client": ("127.0.0.1", 1),
    }  # fmt: skip
    talk = ApplicationCommunicator(build_gateway(), scope)
    await talk.send_input({"type": "http.request"})
    assert (await talk.receive_output())["status"] == 400  # there is no Host
    assert scope["scheme"] == scheme


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


async def test_what_is_written_in_one_turn_goes_out_together_and_what_is_much_at_once() -> None:
    transport = Transport()
    joined = JoinedWrites(cast("Any", transport))
    joined.write(b"head")
    joined.write(b"body")
    assert transport.written == []
    await asyncio.sleep(0)
    assert transport.written == [b"headbody"]
    for _ in range(3):
        joined.write(b"x" * 40_000)
    assert [len(data) for data in transport.written] == [8, 80_000]
    joined.close()
    assert [len(data) for data in transport.written] == [8, 80_000, 40_000]
    assert transport.is_closed
    joined.write(b"late")
    await asyncio.sleep(0)
    assert len(transport.written) == 3
