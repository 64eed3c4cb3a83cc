"""Take servers over from a file: what fits is written, what does not is reported by name and reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from rest_framework import serializers

from oauthflow.protocol.errors import SecretUnreadableError

from ..models import McpServer
from ..refusals import UnknownFieldError
from ..serializers import SECRET_FIELDS, ServerSerializer, set_fields
from ..server_changes import Access, change_server, create_server
from ..server_impact import ConfirmationRequiredError
from .detection import read_servers
from .entry import FileFormat, Remark, ServerEntry

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@dataclass(slots=True)
class ImportResult:
    """What became of each entry; `created` and `updated` hold slugs."""

    format: FileFormat
    dry_run: bool
    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    skipped: list[Remark] = field(default_factory=list)
    problems: list[Remark] = field(default_factory=list)
    notes: list[Remark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Order:
    actor: User | None
    client: str
    now: datetime
    update: bool


def import_servers(
    document: object,
    *,
    actor: User | None,
    now: datetime,
    client: str = "",
    update: bool = False,
    dry_run: bool = False,
) -> ImportResult:
    """Import a file of any known format.

    Args:
        document: The file's text, or its content parsed already.
        actor: Whose permissions count; None for an operator at the terminal.
        now: Aware UTC.
        client: Name of the API token that acts.
        update: Change servers that exist already; otherwise they are skipped. A new target of a server that has
            connections is a problem in any case: it has to be confirmed at the server itself.
        dry_run: Say what would happen and write nothing.

    Raises:
        UnreadableFileError: The file as a whole cannot be read.
    """
    content = read_servers(document)
    result = ImportResult(content.format, dry_run, problems=list(content.problems))
    order = _Order(actor, client, now, update)
    seen: dict[str, str] = {}
    # Entries that others refer to go first.
    for entry in sorted(content.entries, key=lambda one: bool(one.values.get("identity_provider"))):
        other = seen.setdefault(entry.slug, entry.name)
        if other is not entry.name:
            result.problems.append(Remark(entry.name, f"{other!r} has the same slug, {entry.slug}"))
            continue
        try:
            with transaction.atomic():
                _take_over(entry, order=order, result=result)
                transaction.set_rollback(dry_run)
        except _REFUSALS as error:
            result.problems.append(Remark(entry.name, reason_of(error)))
    return result


_REFUSALS = (
    serializers.ValidationError,
    ValidationError,
    UnknownFieldError,
    PermissionDenied,
    ConfirmationRequiredError,
    SecretUnreadableError,
)


def reason_of(error: Exception) -> str:
    """Say in one line why an entry was refused."""
    if isinstance(error, serializers.ValidationError):
        return _sentence(error.detail)
    if isinstance(error, ValidationError):
        return _sentence(error.message_dict if hasattr(error, "error_dict") else error.messages)
    if isinstance(error, UnknownFieldError):
        return str(error.detail)
    if isinstance(error, PermissionDenied):
        return "your account may not change this"
    if isinstance(error, ConfirmationRequiredError):
        return f"{error.impact} Change it at the server itself, where that is confirmed."
    return "a secret that is stored for it cannot be opened"


def _take_over(entry: ServerEntry, *, order: _Order, result: ImportResult) -> None:
    server = McpServer.objects.filter(slug=entry.slug).first()
    if server is not None and not order.update:
        result.skipped.append(Remark(entry.name, f"{entry.slug} exists already"))
        return
    read = ServerSerializer(server, data={**entry.values, "slug": entry.slug}, partial=server is not None)
    read.is_valid(raise_exception=True)
    values: dict[str, Any] = read.validated_data
    access = Access(values.get("users"), values.get("groups"))
    if server is None:
        server = McpServer()
        set_fields(server, values)
        create_server(server, actor=order.actor, access=access, client=order.client)
        result.created.append(server.slug)
    else:
        set_fields(server, _without_same_secrets(server, values))
        change = change_server(server, actor=order.actor, now=order.now, access=access, client=order.client)
        if not change.fields:
            result.skipped.append(Remark(entry.name, "nothing differs"))
            return
        result.updated.append(server.slug)
        result.notes += [Remark(entry.name, f"{name} was erased: enter it anew.") for name in sorted(change.forgotten)]
    result.notes += [Remark(entry.name, note) for note in entry.notes]


def _without_same_secrets(server: McpServer, values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out secrets that are stored already: sealing one again would look like a change."""
    wanted = McpServer(id=server.id)
    set_fields(wanted, {name: value for name, value in values.items() if name in SECRET_FIELDS})
    same = {
        name
        for name in SECRET_FIELDS
        if name in values and getattr(server, f"{name}_sealed").reveal() == getattr(wanted, f"{name}_sealed").reveal()
    }
    return {name: value for name, value in values.items() if name not in same}


def _sentence(said: object) -> str:
    if isinstance(said, Mapping):
        return "; ".join(f"{name}: {_sentence(words)}" for name, words in said.items())
    if isinstance(said, list | tuple):
        return " ".join(_sentence(words) for words in said)
    return str(said)
