"""`Mcp-Param-*`: arguments of a tool that a client repeats in headers, where the tool's description says so.

Which header stands for which argument only that description tells; headers that nobody described pass untouched. One
that is missing is left to the server: it knows best what it has described to this client.

Spec: MCP 2026-07-28, transports, custom headers from tool parameters. G-06, G-07.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from .mirrored_headers import Headers, decoded, value_of

_ANNOTATION: Final = "x-mcp-header"
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TYPES: Final = ("string", "integer", "boolean")
_DECIMAL: Final = re.compile(r"(-?[0-9]{1,400})(?:\.0+)?")
_DEEPEST: Final = 50


class ParameterHeader(NamedTuple):
    """A header in lower case, and where in the arguments of its tool stands what it repeats."""

    name: bytes
    path: tuple[str, ...]


def parameter_headers(input_schema: object) -> tuple[ParameterHeader, ...]:
    """Return what a tool's input schema describes; nothing where it does so wrongly, because clients drop that tool."""
    found = list(_described(input_schema, ()))
    if None in found or len({header.name for header in found if header}) != len(found):
        return ()
    return tuple(header for header in found if header)


def _described(schema: object, path: tuple[str, ...]) -> Iterator[ParameterHeader | None]:
    """Go through properties of properties; None stands for a description that is none."""
    if not isinstance(schema, Mapping) or len(path) > _DEEPEST:
        return
    if _ANNOTATION in schema:
        token = schema[_ANNOTATION]
        is_valid = path and isinstance(token, str) and _TOKEN.fullmatch(token) and schema.get("type") in _TYPES
        yield ParameterHeader(b"mcp-param-" + token.lower().encode(), path) if is_valid else None
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        for name, inner in properties.items():
            yield from _described(inner, (*path, name))


def parameter_disagreement(headers: Headers, described: Sequence[ParameterHeader], arguments: object) -> str:
    """Return one sentence about the first header that says something else than the arguments; empty for none."""
    for name, path in described:
        try:
            sent = value_of(headers, name)
        except ValueError as error:
            return f"The header {error}."
        if sent is not None and not _says(decoded(sent), _value_at(path, arguments)):
            return f"The header {name.decode('ascii')} differs from the argument that it repeats."
    return ""


def _value_at(path: tuple[str, ...], arguments: object) -> Any:
    value = arguments
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _says(text: str | None, value: object) -> bool:
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    if isinstance(value, int | float):
        number = _DECIMAL.fullmatch(text or "")
        return number is not None and int(number[1]) == value
    return isinstance(value, str) and text == value
