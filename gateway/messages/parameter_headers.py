"""`Mcp-Param-*`: arguments of a tool that a client repeats in headers, where the tool's description says so.

Which header stands for which argument only that description tells; headers that nobody described pass untouched. A
tool may have been described in several ways, to other people or at other times, and nobody knows which of them this
client has seen: a header has to be right for one of those that describe it, and is missed where all of them do.

Spec: MCP 2026-07-28, transports, custom headers from tool parameters. G-06, G-07.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from .mirrored_headers import Headers, decoded, value_of

ANNOTATION: Final = "x-mcp-header"
TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""Of what names of headers are made. RFC 9110 §5.6.2."""
_TYPES: Final = ("string", "integer", "boolean")
_DECIMAL: Final = re.compile(r"(-?[0-9]{1,400})(?:\.0+)?")
# Where schemas lie inside of others besides `properties`. JSON Schema 2020-12, core §10, §11 and Appendix A.
_IS_SCHEMA: Final = frozenset(
    {
        "items", "contains", "unevaluatedItems", "additionalProperties", "propertyNames", "unevaluatedProperties",
        "not", "if", "then", "else", "contentSchema",
    }
)  # fmt: skip
_MEMBERS_ARE_SCHEMAS: Final = frozenset(
    {"allOf", "anyOf", "oneOf", "prefixItems", "patternProperties", "dependentSchemas", "$defs", "definitions"}
)
_LARGEST: Final = 2**53 - 1
"""Integers beyond no client has to repeat, and some do not: a double would not hold them."""


class ParameterHeader(NamedTuple):
    """A header in lower case, and where in the arguments of its tool stands what it repeats."""

    name: bytes
    path: tuple[str, ...]


Wording: TypeAlias = tuple[ParameterHeader, ...]
"""What one description of a tool says about headers."""


def parameter_headers(input_schema: object) -> Wording:
    """Return what a tool's input schema describes; nothing where it does so wrongly, because clients drop that tool."""
    found = list(_described(input_schema, ()))
    if None in found or len({header.name for header in found if header}) != len(found):
        return ()
    return tuple(header for header in found if header)


def _described(schema: object, path: tuple[str, ...] | None) -> Iterator[ParameterHeader | None]:
    """Go through all schemas; None stands for a description that is none.

    `path` is None off the chain of `properties`, where no argument can be found for a description.
    """
    if not isinstance(schema, Mapping):
        return
    if ANNOTATION in schema:
        token = schema[ANNOTATION]
        is_valid = path and isinstance(token, str) and TOKEN.fullmatch(token) and schema.get("type") in _TYPES
        yield ParameterHeader(b"mcp-param-" + token.lower().encode(), path) if path and is_valid else None
    for keyword, inner in schema.items():
        if keyword == "properties" and isinstance(inner, Mapping):
            for name, member in inner.items():
                yield from _described(member, (*path, name) if path is not None else None)
        elif keyword in _MEMBERS_ARE_SCHEMAS:
            for member in inner.values() if isinstance(inner, Mapping) else inner if isinstance(inner, list) else ():
                yield from _described(member, None)
        elif keyword in _IS_SCHEMA:
            yield from _described(inner, None)


def parameter_disagreement(headers: Headers, wordings: Collection[Wording], arguments: object) -> str:
    """Compare the headers of a call with its arguments.

    Args:
        headers: Of the POST.
        wordings: What each known description of the tool says.
        arguments: Of the body.

    Returns:
        One sentence about the first header that is missing, or says something else; empty where all agree.
    """
    paths: dict[bytes, list[tuple[str, ...]]] = {}
    for wording in wordings:
        for name, path in wording:
            paths.setdefault(name, []).append(path)
    for name, found in paths.items():
        values = [_value_at(path, arguments) for path in found]
        try:
            sent = value_of(headers, name)
        except ValueError as error:
            return f"The header {error}."
        if sent is not None and not any(_says(decoded(sent), value) for value in values):
            return f"The header {name.decode('ascii')} differs from the argument that it repeats."
        if sent is None and len(found) == len(wordings) and all(map(_is_repeated, values)):
            return f"The header {name.decode('ascii')} is missing."
    return ""


def _value_at(path: tuple[str, ...], arguments: object) -> Any:
    value = arguments
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _is_repeated(value: object) -> bool:
    """Whether every client repeats it in a header."""
    if isinstance(value, int | float):
        return value == value // 1 and abs(value) <= _LARGEST
    return isinstance(value, str)


def _says(text: str | None, value: object) -> bool:
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    if isinstance(value, int | float):
        number = _DECIMAL.fullmatch(text or "")
        return number is not None and int(number[1]) == value
    return isinstance(value, str) and text == value
