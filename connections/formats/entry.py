"""What every file format is read into."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from django.utils.text import slugify

_SLUG_LENGTH = 80


class FileFormat(StrEnum):
    """The kinds of files that name MCP servers."""

    MCP_SERVERS = "mcpServers"
    VS_CODE = "vscode"
    REGISTRY = "server.json"
    YAML = "yaml"


class EntryError(Exception):
    """One entry cannot be taken over; the message is for a person and repeats no value."""


class UnreadableFileError(Exception):
    """The file as a whole says nothing that can be taken over; the message is for a person."""


@dataclass(frozen=True, slots=True)
class Remark:
    """What there is to say about one entry."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """One server of a file.

    Attributes:
        name: As the file calls it.
        slug: Under which it is found or made here.
        values: By field name of `ServerSerializer`; may hold secrets.
        notes: What was understood differently or left out, in sentences that repeat no value.
    """

    name: str
    slug: str
    values: Mapping[str, object] = field(repr=False)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileContent:
    """Everything that a file names, readable or not."""

    format: FileFormat
    entries: tuple[ServerEntry, ...]
    problems: tuple[Remark, ...]


def slug_for(name: str) -> str:
    """Return a slug for any name: the same name always gives the same one."""
    slug = slugify(re.sub(r"[./:@_\s]+", "-", name)).strip("-")[:_SLUG_LENGTH].strip("-")
    return slug or f"server-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def text_of(body: Mapping[str, object], *names: str) -> str:
    """Return the first of these members that is there; `""` where none is.

    Raises:
        EntryError: It is not text.
    """
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise EntryError(f"{name} is not text")
        return value.strip()
    return ""


def texts_of(body: Mapping[str, object], name: str) -> dict[str, str]:
    """Return a member that maps names to texts; numbers and booleans are taken as they are written.

    Raises:
        EntryError: It is something else.
    """
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping) or any(not isinstance(item, str | int | float | bool) for item in value.values()):
        raise EntryError(f"{name} is not an object of texts")
    return {str(key): item if isinstance(item, str) else str(item) for key, item in value.items()}
