"""Fixed credentials as configuration files hold them: in headers and in environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .entry import EntryError
from .placeholders import find_placeholder

# Headers that a client sends for itself.
_OF_THE_PROTOCOL: Final = frozenset({"accept", "content-type", "mcp-protocol-version", "user-agent", "connection"})


@dataclass(frozen=True, slots=True)
class Found:
    """Fields that follow from a file's credentials, and what to tell about them."""

    values: Mapping[str, object] = field(repr=False)
    notes: tuple[str, ...] = ()


def credential_of_headers(headers: Mapping[str, str]) -> Found:
    """Return authentication type, header name and credential for the headers of an entry.

    A value with a placeholder is not kept: placeholders are never expanded here, and sending one would be of no use.

    Raises:
        EntryError: More than one header would have to be kept.
    """
    kept = {name: value for name, value in headers.items() if name.lower() not in _OF_THE_PROTOCOL}
    notes = tuple(f"The header {name} is not taken over." for name in headers if name not in kept)
    if not kept:
        return Found({}, notes)
    if len(kept) > 1:
        raise EntryError(f"it sends {len(kept)} headers of its own ({', '.join(sorted(kept))}); one can be kept")
    name, value = next(iter(kept.items()))
    scheme, _, token = value.strip().partition(" ")
    values: dict[str, object]
    if name.lower() == "authorization" and scheme.lower() == "bearer":
        values, value = {"auth_type": "bearer"}, token.strip()
    else:
        values = {"auth_type": "header", "header_name": name}
    if placeholder := find_placeholder(value):
        return Found(
            values, (*notes, f"The header {name} holds {placeholder}, which is not expanded here: enter its value.")
        )
    return Found({**values, "static_credential": value} if value else values, notes)


def environment_of(variables: Mapping[str, str]) -> Found:
    """Return the environment for a local program; variables that hold a placeholder are left out and named."""
    kept = {name: value for name, value in variables.items() if not find_placeholder(value)}
    notes = tuple(
        f"The variable {name} holds {find_placeholder(value)}, which is not expanded here: enter its value."
        for name, value in variables.items()
        if name not in kept
    )
    return Found({"environment": kept} if kept else {}, notes)
