"""Entries of the MCP registry: `server.json`, and the registry's answers, which wrap it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .credentials import credential_of_headers
from .entry import EntryError, ServerEntry, slug_for, text_of
from .placeholders import find_placeholder

OWN_NAMESPACE: Final = "mcp-oauth-site/"
_TRANSPORTS: Final = {"streamable-http": "streamable_http", "streamable_http": "streamable_http", "sse": "sse"}


def registry_name(body: object) -> str:
    """Return what an entry calls itself, or `""`."""
    server = _unwrapped(body)
    name = server.get("name") if isinstance(server, Mapping) else None
    return name if isinstance(name, str) else ""


def read_registry_entry(body: object) -> ServerEntry:
    """Read one entry; of several remotes the first Streamable HTTP one is taken.

    Raises:
        EntryError: It has no remote that can be used, or a part has a wrong type.
    """
    server = _unwrapped(body)
    if not isinstance(server, Mapping):
        raise EntryError("the entry is not an object")
    name = text_of(server, "name")
    if not name:
        raise EntryError("it has no name")
    status = text_of(server, "status") or "active"
    if status == "deleted":
        raise EntryError("it was deleted from the registry")
    remote, transport = _remote(server)
    headers, notes = _headers(remote)
    found = credential_of_headers(headers)
    values: dict[str, object] = {
        "name": text_of(server, "title") or name.rpartition("/")[2] or name,
        "description": text_of(server, "description"),
        "documentation_url": text_of(server, "websiteUrl", "website_url"),
        "url": text_of(remote, "url"),
        "transport": transport,
        **found.values,
    }
    if status == "deprecated":
        values["status"] = "deprecated"
    return ServerEntry(
        name,
        slug_for(name.removeprefix(OWN_NAMESPACE)),
        {field: value for field, value in values.items() if value != ""},
        (*notes, *found.notes),
    )


def _unwrapped(body: object) -> object:
    return body["server"] if isinstance(body, Mapping) and isinstance(body.get("server"), Mapping) else body


def _remote(server: Mapping[str, object]) -> tuple[Mapping[str, object], str]:
    listed = server.get("remotes")
    remotes = [remote for remote in listed if isinstance(remote, Mapping)] if isinstance(listed, list) else []
    known = [(remote, _TRANSPORTS.get(text_of(remote, "type", "transport_type"), "")) for remote in remotes]
    usable = sorted((pair for pair in known if pair[1]), key=lambda pair: pair[1] != "streamable_http")
    if not usable:
        raise EntryError("it has no remote address; packages that run as local programs are configured by hand")
    remote, transport = usable[0]
    if placeholder := find_placeholder(text_of(remote, "url")):
        raise EntryError(f"its address holds {placeholder}; placeholders are not expanded here")
    return remote, transport


def _headers(remote: Mapping[str, object]) -> tuple[dict[str, str], list[str]]:
    """Return the headers that have to be sent; a value that a person has to enter is empty."""
    listed = remote.get("headers")
    headers: dict[str, str] = {}
    notes: list[str] = []
    for header in listed if isinstance(listed, list) else []:
        if not isinstance(header, Mapping) or not (name := text_of(header, "name")):
            raise EntryError("headers is not a list of objects with a name")
        if not header.get("isRequired", header.get("is_required")):
            notes.append(f"The header {name} is not required and not taken over.")
            continue
        value = text_of(header, "value", "default")
        if not value:
            value = "Bearer " if name.lower() == "authorization" else ""
            notes.append(f"The header {name} needs a value: enter it.")
        headers[name] = value
    return headers, notes
