"""Append to the audit record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .append import Entry, append_many
from .correlation import acting_program, correlation_id
from .events import AuditEvent

SYSTEM: Final = "system"

# What a record may say besides its columns. A name that is not here is a programming error, so that no secret gets in
# by carelessness.
ALLOWED_DETAILS: Final = frozenset(
    {
        "auth_method", "code", "count", "expires_at", "fields", "format", "generation", "grant_type", "happened_at",
        "has_refresh_token", "host", "issuer", "kind", "label", "method", "milliseconds", "new_issuer", "old_issuer",
        "outcome", "path", "registration_method", "request", "request_bytes", "requested_scope", "resource",
        "response_bytes", "retryable", "revoked_upstream", "scope", "seconds_left", "status", "target", "token", "tool",
        "transport", "trigger", "user",
    }
)  # fmt: skip


def record(
    event: AuditEvent,
    *,
    actor: object = None,
    server: str = "",
    connection: object = None,
    client: str = "",
    reason: str = "",
    details: Mapping[str, object] | None = None,
) -> None:
    """Append one record, in the caller's transaction or in its own.

    Call it last inside a transaction: it takes the lock on the end of the chain and holds it until the commit.

    Args:
        event: What happened.
        actor: A user, a user's id, or None for the system itself.
        server: Slug of the MCP server concerned.
        connection: A connection or its id.
        client: Name of the API token or client id that acted; empty: the program that acts in this request, if any.
        reason: A code or a few words of ours.
        details: JSON-able values under names in `ALLOWED_DETAILS`; never a secret.

    Raises:
        ValueError: A detail has a name that is not allowed.
    """
    append_many(
        [entry(event, actor=actor, server=server, connection=connection, client=client, reason=reason, details=details)]
    )


def entry(
    event: AuditEvent,
    *,
    actor: object = None,
    server: str = "",
    connection: object = None,
    client: str = "",
    reason: str = "",
    details: Mapping[str, object] | None = None,
) -> Entry:
    """Return what `record` would append, for `append_many`; the arguments are those of `record`.

    Raises:
        ValueError: A detail has a name that is not allowed.
    """
    said = {name: _plain(value) for name, value in (details or {}).items()}
    if unknown := said.keys() - ALLOWED_DETAILS:
        raise ValueError(f"audit details {sorted(unknown)} are not in ALLOWED_DETAILS")
    return Entry(
        event=event.value,
        actor=_id_of(actor) or SYSTEM,
        server=server,
        connection=_id_of(connection),
        client=(client or acting_program())[:200],
        reason=reason[:200],
        correlation_id=correlation_id(),
        details=said,
    )


def _id_of(subject: object) -> str:
    if subject is None:
        return ""
    return str(getattr(subject, "pk", subject) or "")


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return sorted(str(item) for item in value)
    return str(value)[:500]
