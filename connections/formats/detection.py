"""Find out what kind of file somebody has, and read every entry of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from .client_files import read_client_entry
from .documents import read_document
from .entry import EntryError, FileContent, FileFormat, Remark, ServerEntry, UnreadableFileError
from .registry import read_registry_entry, registry_name
from .site_file import MARKER, read_site_entry

MAX_ENTRIES: Final = 500

_Named = tuple[str, Callable[[], ServerEntry]]


def read_servers(document: object) -> FileContent:
    """Read a file of any known format; an entry that does not fit is reported and does not stop the others.

    Args:
        document: The file's text, or its content parsed already.

    Raises:
        UnreadableFileError: It is of no known format, too long, or names more than 500 servers.
    """
    kind, named = _recognised(read_document(document))
    if len(named) > MAX_ENTRIES:
        raise UnreadableFileError(f"The file names {len(named)} servers; at most {MAX_ENTRIES} are taken at once.")
    entries: list[ServerEntry] = []
    problems: list[Remark] = []
    for name, read in named:
        try:
            entries.append(read())
        except EntryError as error:
            problems.append(Remark(name[:255], str(error)))
    return FileContent(kind, tuple(entries), tuple(problems))


def _recognised(top: Mapping[str, Any]) -> tuple[FileFormat, list[_Named]]:
    inner = top.get("mcp")
    servers = inner.get("servers") if isinstance(inner, Mapping) else top.get("servers")
    if isinstance(top.get("mcpServers"), Mapping):
        return FileFormat.MCP_SERVERS, _client_entries(top["mcpServers"])
    if isinstance(servers, Mapping):
        return FileFormat.VS_CODE, _client_entries(servers)
    if isinstance(servers, list):
        if MARKER in top or not any(_is_registry(body) for body in servers):
            return FileFormat.YAML, _listed(servers, read_site_entry)
        return FileFormat.REGISTRY, _listed(servers, read_registry_entry)
    if _is_registry(top):
        return FileFormat.REGISTRY, _listed([top], read_registry_entry)
    raise UnreadableFileError(
        "The file is of no known kind. Known are: mcpServers (Claude Desktop, Cursor), servers (VS Code), "
        "server.json (registry), and this site's own YAML."
    )


def _is_registry(body: object) -> bool:
    if not isinstance(body, Mapping):
        return False
    return isinstance(body.get("server"), Mapping) or "remotes" in body or "packages" in body


def _client_entries(servers: Mapping[Any, Any]) -> list[_Named]:
    return [(str(name), partial(read_client_entry, str(name), body)) for name, body in servers.items()]


def _listed(bodies: Iterable[object], read: Callable[[object], ServerEntry]) -> list[_Named]:
    return [
        (registry_name(body) or f"entry {number}", partial(read, body)) for number, body in enumerate(bodies, start=1)
    ]
