"""JSON documents of other people's servers, read strictly."""

from __future__ import annotations

import json
import math
import re
from codecs import BOM_UTF8
from collections.abc import Iterable
from typing import Any, Final

from .errors import MalformedResponseError
from .messages import Response

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def read_json_object(response: Response, *, max_depth: int = 20) -> dict[str, Any]:
    """Read the JSON object that a response carries, whatever its status.

    Args:
        response: Complete response; the sender has capped the size of its body.
        max_depth: How many objects and lists may lie inside each other; the outermost one counts.

    Returns:
        The object. All its strings can be encoded as UTF-8 and hold no NUL.

    Raises:
        MalformedResponseError: The content type is not JSON, or the body is not UTF-8, not one JSON object, has
            a name twice in one object, a number that is not finite, or is nested too deeply.

    Spec: RFC 8259 §4, §6, §8.1; RFC 6749 §5.1; RFC 8414 §3.2; RFC 9728 §3.2.
    """
    if not _is_json(response.headers.get("content-type", "")):
        raise MalformedResponseError("the content type is not JSON")
    return parse_json_object(response.body, max_depth=max_depth)


def parse_json_object(body: bytes, *, max_depth: int = 20) -> dict[str, Any]:
    """Read one JSON object under the same rules, wherever its bytes were found.

    Raises:
        MalformedResponseError: As `read_json_object`, whatever the content type.

    Spec: RFC 8259 §4, §6, §8.1.
    """
    document, problem = _parsed(body)
    if problem:
        # Raised here and not while the parser's error is handled: that one holds the body, and with it tokens.
        raise MalformedResponseError(problem)
    if not isinstance(document, dict):
        raise MalformedResponseError("the JSON is not an object")
    if not _is_flat(body, max_depth=max_depth):
        _check_depth_and_text(document, max_depth=max_depth)
    return document


def _parsed(body: bytes) -> tuple[object, str]:
    try:
        document = _decoder.decode(body.removeprefix(BOM_UTF8).decode())
    except UnicodeDecodeError:
        return None, "the body is not UTF-8"
    except RecursionError:
        return None, "the JSON is nested too deeply"
    except ValueError:
        return None, "the body is not JSON"
    return document, ""


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two parsers may choose different ones of two equal names, so neither is taken."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedResponseError("a name occurs twice in one JSON object")
    return found


def _refuse_constant(name: str) -> float:
    raise MalformedResponseError("the JSON holds NaN or Infinity")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise MalformedResponseError("a number in the JSON is too large")
    return number


def _is_flat(body: bytes, *, max_depth: int) -> bool:
    """The usual case by a glance: too few brackets to be deep, and no escape by which alone such text could come."""
    return b"\\u" not in body and body.count(b"{") + body.count(b"[") <= max_depth


def _check_depth_and_text(document: dict[str, Any], *, max_depth: int) -> None:
    """Level by level, without recursion; text that a database could not store is refused here once for all."""
    level: list[Any] = [document]
    for _depth in range(max_depth):
        _check_text(value for value in level if isinstance(value, str))
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return
    if any(isinstance(value, dict | list) for value in level):
        raise MalformedResponseError("the JSON is nested too deeply")
    _check_text(value for value in level if isinstance(value, str))


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else ()


def _check_text(texts: Iterable[str]) -> None:
    for text in texts:
        if _UNSTORABLE.search(text):
            raise MalformedResponseError("a text in the JSON holds NUL or half a surrogate pair")


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_object_without_repeats, parse_constant=_refuse_constant, parse_float=_finite
)
