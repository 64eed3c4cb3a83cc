"""A body larger than anything we take is refused before it is kept anywhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application

from mcp_oauth_site.body_limit import limit_bodies

pytestmark = pytest.mark.django_db(transaction=True)


async def _post(*parts: bytes, announced: int | None = None, path: str = "/api/v1/oauth/initiate") -> tuple[int, Any]:
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    headers += [] if announced is None else [(b"content-length", str(announced).encode())]
    scope: dict[str, Any] = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(),
        "query_string": b"", "scheme": "http", "root_path": "", "client": ("192.0.2.1", 1), "server": ("x", 80),
        "headers": headers,
    }  # fmt: skip
    talk = ApplicationCommunicator(limit_bodies(get_asgi_application(), most_bytes=1000), scope)
    for number, part in enumerate(parts, start=1):
        await talk.send_input({"type": "http.request", "body": part, "more_body": number < len(parts)})
    begun = await talk.receive_output(timeout=10)
    body = await talk.receive_output(timeout=10)
    await talk.wait(timeout=10)
    return begun["status"], json.loads(body["body"])


async def test_a_body_that_is_announced_too_large_is_not_even_read() -> None:
    status, said = await _post(announced=1001)
    assert (status, said["error"]) == (413, "request_too_large")


@pytest.mark.parametrize("announced", [None, 10])
async def test_a_body_that_grows_too_large_is_cut_off(announced: int | None) -> None:
    status, said = await _post(b"x" * 600, b"x" * 600, b"x", announced=announced)
    assert (status, said["error"]) == (413, "request_too_large")


async def test_a_body_of_the_largest_size_goes_through() -> None:
    status, said = await _post(b"x" * 500, b"x" * 500, announced=1000)
    assert (status, said["error"]) == (401, "not_authenticated")
