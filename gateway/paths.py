"""The two addresses of a server behind the gateway, and nothing that only looks like one. G-01, security notes G06."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

PREFIX: Final = "/mcp/"
METADATA_PREFIX: Final = "/.well-known/oauth-protected-resource/mcp/"

_PATH: Final = re.compile(rb"(/\.well-known/oauth-protected-resource)?/mcp/([A-Za-z0-9_-]{1,80})")


class Endpoint(NamedTuple):
    """What an address stands for: the MCP endpoint of one server, or its metadata."""

    slug: str
    is_metadata: bool


def read_path(scope: Mapping[str, Any]) -> Endpoint | None:
    """Return what exactly this address stands for, or None.

    The bytes of the request line count: a path that only becomes such an address by decoding or tidying is none.
    """
    raw = scope.get("raw_path")
    found = None if raw is None or scope.get("root_path") else _PATH.fullmatch(raw)
    return Endpoint(found[2].decode("ascii"), found[1] is not None) if found else None
