"""Our own YAML: the fields of the REST interface, a list of servers under `servers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .entry import EntryError, ServerEntry, slug_for, text_of
from .placeholders import find_placeholder

MARKER: Final = "mcp_oauth_site"
VERSION: Final = 1
_MARKS: Final = {
    "client_secret_set": "client_secret",
    "client_private_key_set": "client_private_key",
    "assertion_set": "assertion",
    "static_credential_set": "static_credential",
    "environment_set": "environment",
}


def read_site_entry(body: object) -> ServerEntry:
    """Read one entry; marks of secrets that the export left out become notes.

    Raises:
        EntryError: It is not an object with a name.
    """
    if not isinstance(body, Mapping):
        raise EntryError("the entry is not an object")
    name = text_of(body, "name") or text_of(body, "slug")
    if not name:
        raise EntryError("it has no name")
    if placeholder := find_placeholder(text_of(body, "url")):
        raise EntryError(f"its address holds {placeholder}; placeholders are not expanded here")
    notes = tuple(
        f"{secret} was set where this file comes from: enter it."
        for mark, secret in _MARKS.items()
        if body.get(mark) is True and not body.get(secret)
    )
    values = {str(field): value for field, value in body.items() if field not in _MARKS}
    return ServerEntry(name, text_of(body, "slug") or slug_for(name), {**values, "name": name}, notes)
