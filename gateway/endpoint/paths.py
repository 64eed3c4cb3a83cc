"""The two addresses of a server behind the gateway, and nothing that only looks like one. G-01, security notes G06."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

PREFIX: Final = "/mcp/"
METADATA_PREFIX: Final = "/.well-known/oauth-protected-resource/mcp/"

_LABEL: Final = re.compile(r"[^\x00-\x1f\x7f]{1,80}")
_PATH: Final = re.compile(rb"(/\.well-known/oauth-protected-resource)?/mcp/([A-Za-z0-9_-]{1,80})")


class Endpoint(NamedTuple):
    """What an address stands for: the MCP endpoint of one server, or its metadata.

    `label` is which of several connections of one person is meant, `?label=work`; empty: whichever.
    """

    slug: str
    is_metadata: bool
    label: str = ""


def read_path(scope: Mapping[str, Any]) -> Endpoint | None:
    """Return what exactly this address stands for, or None.

    The bytes of the request line count: a path that only becomes such an address by decoding or tidying is none.
    """
    raw, query = scope.get("raw_path"), scope.get("query_string", b"")
    endpoint = None if raw is None or scope.get("root_path") else _endpoint(raw)
    if endpoint is None or not query:
        return endpoint
    label = _label(query)
    return endpoint._replace(label=label) if label is not None else None


@lru_cache(maxsize=500)
def _endpoint(raw: bytes) -> Endpoint | None:
    found = _PATH.fullmatch(raw)
    return Endpoint(found[2].decode("ascii"), found[1] is not None) if found else None


def _label(query: bytes) -> str | None:
    """Return the label, or None for one that no connection can have: nobody's other connection is taken instead."""
    try:
        named = parse_qs(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError:
        return None
    labels = named.get("label", [""])
    return labels[0] if len(labels) == 1 and (not labels[0] or _LABEL.fullmatch(labels[0])) else None
