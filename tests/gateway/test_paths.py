"""Only the exact address reaches a server; whatever becomes one by decoding or tidying does not."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.endpoint.paths import read_path
from tests.requirements import requirement

STRANGE = (
    "/mcp/", "/mcp", "/mcp/files/", "/mcp/files/x", "/mcp/files//", "//mcp/files", "/mcp//files", "/mcp/./files",
    "/mcp/../mcp/files", "/mcp/files/..", "/mcp/files%2f", "/mcp%2ffiles", "/mcp/%66iles", "/%6dcp/files",
    "/mcp/files%2e%2e", "/mcp/..%2ffiles", "/mcp/files;a=b", "/mcp;x/files", "/mcp/files\\", "/mcp\\files",
    "/mcp/files%5c..", "/mcp/%252e%252e/files", "/mcp/files%00", "/mcp/files%20", "/mcp/files.", "/mcp/files.json",
    "/MCP/files", "/mcp/fi les", "/mcp/files%0a", "/mcp/files@evil.example", "/mcp/http://evil.example/", "/mcp/*",
    "/mcp/" + "a" * 81, "/mcp/fil\u0435s", "/.well-known/oauth-protected-resource/mcp/files/",
    "/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp/../mcp/files",
    "/.well-known/../mcp/files", "/x/.well-known/oauth-protected-resource/mcp/files",
)  # fmt: skip


def _scope(raw: bytes, **more: Any) -> dict[str, Any]:
    return {"raw_path": raw, "path": "/mcp/files", "root_path": "", **more}


@requirement("G-01")
def test_a_server_has_two_addresses() -> None:
    endpoint = read_path(_scope(b"/mcp/My-files_2"))
    metadata = read_path(_scope(b"/.well-known/oauth-protected-resource/mcp/My-files_2"))
    assert endpoint == ("My-files_2", False, "")
    assert metadata == ("My-files_2", True, "")


@requirement("G-01")
@pytest.mark.parametrize("raw", STRANGE)
def test_nothing_else_is_an_address_even_where_its_decoded_form_is(raw: str) -> None:
    assert len(STRANGE) >= 25
    assert read_path(_scope(raw.encode())) is None


def _labelled(query: str) -> str | None:
    endpoint = read_path(_scope(b"/mcp/files", query_string=query.encode()))
    return endpoint.label if endpoint else None


def test_a_query_may_name_one_of_several_connections() -> None:
    assert _labelled("label=work") == _labelled("a=b&label=work&access_token=x") == "work"
    assert _labelled("label=K%C3%BCche+2") == "K\u00fcche 2"
    assert _labelled("") == _labelled("a=b") == _labelled("label=") == ""
    for strange in ("label=a&label=b", "label=%00", "label=a%0ab", "label=" + "a" * 81, "label=%ff", "&a" * 30):
        assert _labelled(strange) is None


def test_an_address_below_another_root_is_none() -> None:
    assert read_path(_scope(b"/mcp/files", root_path="/prefix")) is None
    assert read_path({"path": "/mcp/files"}) is None
