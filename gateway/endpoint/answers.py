"""Answers of the gateway itself: JSON that nobody stores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

JSON: Final = (b"content-type", b"application/json")
NO_STORE: Final = (b"cache-control", b"no-store")
CLOSE: Final = (b"connection", b"close")
SERVER_ERROR: Final = -32000
"""A failure of ours: the first of the codes that JSON-RPC leaves to servers and MCP gives no meaning. G-10."""

_JSON: Final = json.JSONEncoder(separators=(",", ":"))
RawHeaders = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out. The site's own headers, length and request id are added on the way."""

    status: int
    body: bytes = b""
    headers: RawHeaders = (JSON, NO_STORE)


class FailedError(Exception):
    """The gateway cannot do what was asked; told as a JSON-RPC error. G-09.

    Attributes:
        status: 502 for what the server did, 504 for what it did not do in time, 503 and 429 for later, 404 and 405.
        message: For the client; nothing of the server's own text.
        headers: Beyond the usual.
    """

    def __init__(self, status: int, message: str, *, headers: RawHeaders = ()) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers


class BusyError(FailedError):
    """Too much at once: of one user (429) or of this process (503)."""

    def __init__(self, status: int, message: str, *, wait_seconds: int) -> None:
        super().__init__(status, message, headers=((b"retry-after", b"%d" % wait_seconds),))


class BadRequestError(FailedError):
    """What came is no request that may be understood: 400 and the end of the connection. Security notes G04."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message, headers=(CLOSE,))


def json_answer(members: dict[str, Any], *, status: int = 200, headers: RawHeaders = (NO_STORE,)) -> Answer:
    """Answer with a JSON document."""
    return Answer(status, _JSON.encode(members).encode(), (JSON, *headers))
