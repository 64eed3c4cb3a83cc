"""JSON that no two parsers read differently. Security notes, A6 G10."""

from __future__ import annotations

import json
from typing import Any, Final

from .message import ENCODER, INVALID_REQUEST, PARSE_ERROR, RefusedMessageError

DEEPEST: Final = 50
"""How many objects and lists may lie inside each other; the outermost one counts."""


def read_json(body: bytes) -> tuple[Any, bytes]:
    """Read one JSON text and write it anew.

    Returns:
        The value, and UTF-8 JSON that means the same: whole numbers of any size and all text are kept, other numbers
        as far as a double holds them (RFC 8259 §6).

    Raises:
        RefusedMessageError: The body is not UTF-8 (a byte order mark counts as not), not exactly one JSON text, holds
            NaN, Infinity, a number beyond double precision's range or half a surrogate pair (-32700), has a name twice
            in one object, or is nested too deeply (-32600).

    Spec: RFC 8259 §4, §6, §8.
    """
    value, written, refusal = _read(body)
    if refusal is not None:
        # Raised here and not while the parser's error is handled: that one holds the body.
        raise refusal
    return value, written


def _read(body: bytes) -> tuple[Any, bytes, RefusedMessageError | None]:
    try:
        text = body.decode()
        value = _LENIENT.decode(text)
        if body.count(b"{") + body.count(b"[") > DEEPEST and is_deeper(value, than=DEEPEST):
            return None, b"", _too_deep()
        written = ENCODER.encode(value).encode()
        # With a name twice it would be shorter. Nearly every message differs in its white space only, if at all.
        if body != written and body.translate(None, _WHITE_SPACE) != written.translate(None, _WHITE_SPACE):
            _STRICT.decode(text)
        return value, written, None
    except RefusedMessageError as refusal:
        return None, b"", refusal
    except RecursionError:
        return None, b"", _too_deep()
    except UnicodeError:
        return None, b"", RefusedMessageError(PARSE_ERROR, "The body is not UTF-8, or holds half a surrogate pair.")
    except ValueError:
        return None, b"", RefusedMessageError(PARSE_ERROR, "The body is not one JSON text with finite numbers.")


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two parsers may choose different ones of two equal names, so neither is taken."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RefusedMessageError(INVALID_REQUEST, "A name occurs twice in one object.")
    return found


_LENIENT: Final = json.JSONDecoder()
_STRICT: Final = json.JSONDecoder(object_pairs_hook=_object_without_repeats)
_WHITE_SPACE: Final = b" \t\r\n"


def is_deeper(value: Any, *, than: int) -> bool:
    """Whether more than so many objects and lists lie inside each other."""
    level = [value]
    for _ in range(than):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return any(isinstance(inner, dict | list) for inner in level)


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _too_deep() -> RefusedMessageError:
    return RefusedMessageError(INVALID_REQUEST, f"The message is nested more than {DEEPEST} deep.")
