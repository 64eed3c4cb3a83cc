"""What a POST carries, and how one is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

Id: TypeAlias = str | int | None

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
INVALID_PARAMS: Final = -32602
HEADER_MISMATCH: Final = -32020
UNSUPPORTED_VERSION: Final = -32022

ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
"""Refuses NaN and infinite numbers."""


class Era(StrEnum):
    """Whether a message stands for itself, or belongs to a session that `initialize` began."""

    MODERN = "modern"  # from 2026-07-28 on
    LEGACY = "legacy"  # up to 2025-11-25


@dataclass(slots=True)  # not frozen: making one would cost three times as much
class Message:
    """One message of a client, or a batch of them; never changed.

    Attributes:
        body: What is to be forwarded: UTF-8 JSON that every parser reads as this one did. Empty in members of a batch.
        era: Of the request, whatever the upstream speaks.
        version: The protocol version that was asked for; empty where none was said, which means 2025-03-26.
        kind: Legacy eras only know `response` and `batch`.
        method: Empty for a response or a batch.
        id: None for a notification, a batch, and an error that answers nothing in particular.
        name: Of the tool or prompt, or the URI of the resource, for the methods that have one; empty otherwise.
        params: As parsed, for policies; not for logs.
        members: The messages of a batch, at least one; empty for everything else.
    """

    body: bytes = field(repr=False)
    era: Era
    version: str
    kind: Literal["request", "notification", "response", "batch"]
    method: str = ""
    id: Id = None
    name: str = ""
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    members: tuple[Message, ...] = ()


class RefusedMessageError(Exception):
    """A POST is answered by us with an HTTP status and a JSON-RPC error, and the upstream does not see it.

    Attributes:
        status: HTTP.
        code: JSON-RPC's or MCP's.
        message: One sentence that quotes nothing of the message.
        id: Of the request, where it could be read. G-10.
        data: JSON value, or None for no `data`.
    """

    def __init__(self, code: int, message: str, *, status: int = 400, id: Id = None, data: object = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.id, self.data = status, code, message, id, data

    @property
    def body(self) -> bytes:
        """The JSON-RPC error document."""
        return error_body(self.code, self.message, id=self.id, data=self.data)


def error_body(code: int, message: str, *, id: Id, data: object = None) -> bytes:
    """Return a JSON-RPC error document.

    Args:
        code: JSON-RPC's or MCP's; none of -32020 to -32099 that MCP does not define. G-10.
        message: One sentence.
        id: Of the request; None where it could not be read.
        data: JSON value, or None for no `data`.

    Spec: JSON-RPC 2.0 §5.1.
    """
    error: dict[str, object] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return ENCODER.encode({"jsonrpc": "2.0", "id": id, "error": error}).encode()
