"""What a tool was called with, for an administrator who asked for it: secrets masked, and not much of it."""

from __future__ import annotations

import json
from typing import Any, Final

from audit.masking import masked
from connections.formats.masking import SECRET_NAME

MOST_BYTES: Final = 4096
_CUT: Final = "…"


def kept_arguments(arguments: Any) -> str:
    """Return JSON of at most 4 KiB, without values whose name or look is that of a secret. Cut, it is no JSON."""
    text = json.dumps(_without_secrets(arguments), ensure_ascii=False).encode()
    if len(text) <= MOST_BYTES:
        return text.decode()
    return text[: MOST_BYTES - len(_CUT.encode())].decode(errors="ignore") + _CUT


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            masked(name): "***" if SECRET_NAME.search(name) else _without_secrets(member)
            for name, member in value.items()
        }
    if isinstance(value, list):
        return [_without_secrets(member) for member in value]
    return masked(value) if isinstance(value, str) else value
