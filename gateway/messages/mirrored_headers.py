"""Headers that repeat what the body says, so that machines on the way need not read it. The body is the truth.

Spec: MCP 2026-07-28, transports, Streamable HTTP. G-06 to G-08.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

Judgement = TypeVar("Judgement")

NAMED_BY: Final[Mapping[str, str]] = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""The parameter that `Mcp-Name` repeats, by method."""

_ENCODED: Final = re.compile(rb"=\?base64\?(.*)\?=", re.DOTALL)


class Headers(Protocol):
    """The headers of a request."""

    def get_all(self, name: bytes) -> Sequence[bytes]:
        """Return the values of all headers of that name, which is in lower case."""

    def judged(self, judge: Callable[[Any], Judgement]) -> Judgement:
        """Return what `judge` says of these headers; asked once for all requests that bring the same."""


def value_of(headers: Headers, name: bytes) -> bytes | None:
    """Return the value of a header, or None where it is absent.

    Raises:
        ValueError: It was sent more than once, and two readers may choose different ones.
    """
    values = headers.get_all(name)
    if len(values) > 1:
        raise ValueError(f"{name.decode('ascii')} was sent more than once")
    return values[0].strip(b" \t") if values else None


def disagreement(headers: Headers, *, method: str, name: str, is_request: bool) -> str:
    """Compare `Mcp-Method` and `Mcp-Name` with the body.

    Args:
        headers: Of the POST.
        method: Of the body.
        name: What the body names; empty where it names nothing.
        is_request: Requests have to bring the headers; notifications may.

    Returns:
        One sentence about the first that is missing or differs; empty where all agree.
    """
    try:
        sent_method, names, sent_name = headers.judged(_mirrored)
    except ValueError as error:
        return f"The header {error}."
    if sent_method is None:
        return "The header mcp-method is missing." if is_request else ""
    if sent_method != method.encode():
        return "The header mcp-method differs from the method of the body."
    if method not in NAMED_BY:
        return ""
    if not names:
        return "The header mcp-name is missing." if name else ""
    return "" if sent_name == name else "The header mcp-name differs from what the body names."


def _mirrored(headers: Headers) -> tuple[bytes | None, bool, str | None]:
    """Return what they say of the method, whether they name something, and what."""
    method, name = value_of(headers, b"mcp-method"), value_of(headers, b"mcp-name")
    return method, name is not None, decoded(name) if name is not None else None


def decoded(value: bytes) -> str | None:
    """Return what a header says, which may be written as `=?base64?…?=`; None for something malformed."""
    encoded = _ENCODED.fullmatch(value)
    try:
        if encoded is None:
            return value.decode("ascii")
        text = base64.b64decode(encoded[1], validate=True)
        return text.decode() if base64.b64encode(text) == encoded[1] else None
    except (binascii.Error, UnicodeDecodeError):
        return None
