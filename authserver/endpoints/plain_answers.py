"""Answers of the endpoints that programs ask: JSON that nobody stores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..protocol.errors import InvalidTokenError, OAuthError

NO_STORE: Final = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))
_JSON: Final = json.JSONEncoder(separators=(",", ":"))
_CHALLENGE: Final = ("WWW-Authenticate", 'Basic realm="oauth"')
_TOKEN_CHALLENGE: Final = ("WWW-Authenticate", 'Bearer realm="oauth", error="invalid_token"')


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out. The site's own headers are added on the way."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(
    members: Mapping[str, object], *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> Answer:
    """Answer with JSON. RFC 6749 §5.1: `no-store`, and `no-cache` for what is older."""
    return Answer(status, _JSON.encode(members).encode(), (("Content-Type", "application/json"), *NO_STORE, *headers))


def error_answer(error: OAuthError) -> Answer:
    """Answer with an error. RFC 6749 §5.2; RFC 6750 §3; RFC 7591 §3.2.2; a 401 says how to authenticate."""
    members = {"error": error.error}
    if error.description:
        members["error_description"] = error.description
    headers: tuple[tuple[str, str], ...] = ()
    if error.status == 401:
        headers = (_TOKEN_CHALLENGE if isinstance(error, InvalidTokenError) else _CHALLENGE,)
    if error.retry_after_seconds is not None:
        headers += (("Retry-After", str(error.retry_after_seconds)),)
    return json_answer(members, status=error.status, headers=headers)


def wrong_method(allowed: str) -> Answer:
    """Answer 405. RFC 9110 §15.5.6."""
    members = {"error": "invalid_request", "error_description": f"Use {allowed}."}
    return json_answer(members, status=405, headers=(("Allow", allowed),))
