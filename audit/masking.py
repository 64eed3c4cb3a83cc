"""Take out of a text what could be a secret, before it is written where people read."""

from __future__ import annotations

import re
from typing import Final

_QUERY: Final = re.compile(r"(?<=[\w/])[?#][^\s\"'<>]+")
_CREDENTIAL: Final = re.compile(r"(?i)\b(bearer|basic|dpop)\s+[\w.~+/=-]+")
_NAMED: Final = re.compile(
    r"(?i)((?:token|secret|password|code|state|verifier|assertion|cookie|authorization|key)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&}]+"
)
_OPAQUE: Final = re.compile(r"(?<![\w.-])(?=[\w.~+=-]*\d)(?=[\w.~+=-]*[A-Za-z])[\w.~+=-]{24,}")
_UUID_OR_PATH: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}|(?:[a-z_]+\.)+[a-z0-9_]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def masked(text: str) -> str:
    """Return the text without queries, credentials, anything opaque that could be a token, and control characters."""
    text = _QUERY.sub("?…", text)
    text = _CREDENTIAL.sub(r"\1 ***", text)
    text = _NAMED.sub(r"\1***", text)
    text = _OPAQUE.sub(lambda found: found[0] if _UUID_OR_PATH.fullmatch(found[0]) else "***", text)
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
