"""Create, change and delete servers: the one way for REST, the admin and imports. No network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from audit.append import appended_last
from audit.events import AuditEvent
from audit.record import record
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import InvalidRequestError, TransportError

from .lock_order import lock_by_key, lock_grants
from .models import Connection, McpServer, ServerDiscovery, TokenSet
from .revocations import end_grants
from .server_impact import ConfirmationRequiredError, impact_of_deletion, impact_of_new_target

if TYPE_CHECKING:
    from django.contrib.auth.models import Group, User

TARGET_FIELDS: Final = frozenset(
    {
        "url", "issuer", "authorization_endpoint", "token_endpoint", "revocation_endpoint", "accepted_issuer",
        "resource", "resource_mode", "identity_provider",
    }
)  # fmt: skip
"""What decides where tokens and secrets are sent, and for whom they are asked. Z04."""

RESERVED_SLUGS: Final = frozenset({"import", "export"})
_CLIENT_TARGETS: Final = TARGET_FIELDS - {"url", "resource", "resource_mode", "identity_provider"}
_PROGRAM: Final = frozenset({"command", "arguments"})
_NOT_CONFIGURATION: Final = frozenset({"id", "created_at", "updated_at", "client_issuer"})
_GRANTED: Final = (
    Connection.Status.ACTIVE,
    Connection.Status.DEGRADED,
    Connection.Status.REAUTH_REQUIRED,
    Connection.Status.KEY_UNAVAILABLE,
)


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use a server. None: as it was; both empty: everybody with an account."""

    users: Iterable[User] | None = None
    groups: Iterable[Group] | None = None


@dataclass(frozen=True, slots=True)
class ServerChange:
    """What a change did.

    Attributes:
        fields: Names of the changed fields; secrets without `_sealed`.
        forgotten: Names of secrets that were erased because they belonged to the old target.
        stopped_connections: How many connections wait for a new sign-in because of it.
    """

    fields: frozenset[str]
    forgotten: frozenset[str] = frozenset()
    stopped_connections: int = 0


def create_server(server: McpServer, *, actor: User | None, access: Access | None = None, client: str = "") -> None:
    """Save a new server with its audit record.

    Args:
        server: Filled in, not saved.
        actor: Who does it; None for an operator at the terminal.
        access: Who may use it.
        client: Name of the API token that acts.

    Raises:
        PermissionDenied: The actor may not add servers.
        ValidationError: The fields do not fit; keyed by field.
    """
    _require(actor, "connections.add_mcpserver")
    check_server(server, before=None, actor=actor)
    with transaction.atomic():
        server.save(force_insert=True)
        changed = changed_fields(McpServer(id=server.id), server) | _set_access(server, access)
        record(
            AuditEvent.SERVER_CREATED,
            actor=actor,
            server=server.slug,
            client=client,
            details={"fields": changed, "transport": server.transport},
        )


def change_server(
    server: McpServer,
    *,
    actor: User | None,
    now: datetime,
    access: Access | None = None,
    client: str = "",
    confirmed: bool = False,
) -> ServerChange:
    """Save a changed server with its audit record; without a difference nothing is written.

    When the target of a server with connections changes, its connections wait for a new sign-in, unfinished sign-ins
    end, and secrets that belonged to the old target are erased unless they were set anew. Z04, U11, U12.

    Args:
        server: With its new values, not saved.
        actor: Who does it; None for an operator at the terminal.
        now: Aware UTC.
        access: Who may use it.
        client: Name of the API token that acts.
        confirmed: The actor has seen what a new target means for the connections.

    Raises:
        PermissionDenied: The actor may not change servers, or not the target of one that has connections.
        ConfirmationRequiredError: The target changes, there are connections, and it is not confirmed.
        ValidationError: The fields do not fit; keyed by field.
    """
    _require(actor, "connections.change_mcpserver")
    with transaction.atomic():
        before = McpServer.objects.select_for_update(no_key=True).get(pk=server.pk)
        check_server(server, before=before, actor=actor)
        changed = changed_fields(before, server)
        has_new_target = bool(changed & TARGET_FIELDS)
        if has_new_target and server.connections.exists():
            _require(actor, "connections.change_mcpserver_target")
            if not confirmed:
                raise ConfirmationRequiredError(impact_of_new_target(server))
        forgotten = _forget_secrets(server, before=before, changed=changed)
        if changed & {"client_id", "client_secret", "client_private_key"}:
            server.client_issuer = ""  # The next use binds the client to the issuer it is used at. U12.
        if changed:
            server.save()
        stopped = _stop_connections(server, now=now) if has_new_target else 0
        change = ServerChange(changed | _set_access(server, access), forgotten, stopped)
        if change.fields:
            record(
                AuditEvent.SERVER_CHANGED,
                actor=actor,
                server=before.slug,
                client=client,
                details={"fields": change.fields | forgotten, "count": stopped},
            )
    return change


def delete_server(server: McpServer, *, actor: User | None, client: str = "", confirmed: bool = False) -> None:
    """Delete a server with its connections; grants and registrations are noted to end at their services as well.

    Raises:
        PermissionDenied: The actor may not delete servers.
        ConfirmationRequiredError: It has connections, and the deletion is not confirmed.
    """
    _require(actor, "connections.delete_mcpserver")
    with transaction.atomic(), appended_last():
        lock_by_key(McpServer.objects.filter(pk=server.pk))
        lock_by_key(ServerDiscovery.objects.filter(server=server))
        connections = list(server.connections.select_related("server"))
        if connections and not confirmed:
            raise ConfirmationRequiredError(impact_of_deletion(server))
        end_grants(connections, actor=actor, reason="server deleted", now=timezone.now())
        slug, count = server.slug, len(connections)
        server.delete()
        record(AuditEvent.SERVER_DELETED, actor=actor, server=slug, client=client, details={"count": count})


def lock_target(server: McpServer) -> None:
    """Let nobody change where a server leads, or delete it, until the transaction ends.

    Args:
        server: As it was read when what is now to be written about it was found out.

    Raises:
        InvalidRequestError: It was deleted since.
        TransportError: It leads elsewhere since: what was found out is not true of it any more. Z04.
    """
    if changed_fields(lock_server(server), server) & TARGET_FIELDS:
        raise TransportError("the server was changed meanwhile", code=Code.TEMPORARILY_UNAVAILABLE)


def lock_server(server: McpServer) -> McpServer:
    """Let nobody change or delete a server until the transaction ends, and return it as it is now.

    Raises:
        InvalidRequestError: It was deleted meanwhile.
    """
    found = McpServer.objects.filter(pk=server.pk).select_for_update(no_key=True).first()
    if found is None:
        raise InvalidRequestError("the server was deleted meanwhile")
    return found


def check_server(server: McpServer, *, before: McpServer | None, actor: User | None) -> None:
    """Check all fields of a server that is about to be saved.

    Raises:
        ValidationError: Keyed by field.
    """
    server.full_clean()
    if server.slug in RESERVED_SLUGS:
        raise ValidationError({"slug": f"{server.slug!r} is an address of this site."})
    newly_assumed = server.assume_pkce and not (before and before.assume_pkce)
    if newly_assumed and actor is not None and not actor.is_superuser:
        raise ValidationError({"assume_pkce": "Only a superuser may go on without a promise of PKCE."})


def changed_fields(before: McpServer, after: McpServer) -> frozenset[str]:
    """Return the names of the fields that differ; secrets without `_sealed`."""
    names = (field.name for field in McpServer._meta.concrete_fields if field.name not in _NOT_CONFIGURATION)
    return frozenset(name.removesuffix("_sealed") for name in names if getattr(before, name) != getattr(after, name))


def _require(actor: User | None, permission: str) -> None:
    if actor is not None and not actor.has_perm(permission):
        raise PermissionDenied(f"{permission} is needed")


def _set_access(server: McpServer, access: Access | None) -> frozenset[str]:
    changed = set()
    if access is not None and access.users is not None:
        wanted_users = list(access.users)
        if {user.pk for user in wanted_users} != set(server.users.values_list("pk", flat=True)):
            server.users.set(wanted_users)
            changed.add("users")
    if access is not None and access.groups is not None:
        wanted_groups = list(access.groups)
        if {group.pk for group in wanted_groups} != set(server.groups.values_list("pk", flat=True)):
            server.groups.set(wanted_groups)
            changed.add("groups")
    return frozenset(changed)


def _forget_secrets(server: McpServer, *, before: McpServer, changed: frozenset[str]) -> frozenset[str]:
    """Erase each secret that would now be sent to somebody else, unless it was set together with the new target."""
    moved = set()
    if changed & _CLIENT_TARGETS or ("url" in changed and not server.issuer):
        moved |= {"client_secret", "client_private_key", "assertion"}
    if changed & {"url", "header_name", "transport"}:
        moved.add("static_credential")
    if changed & _PROGRAM:
        moved.add("environment")
    forgotten = {name for name in moved - changed if getattr(before, f"{name}_sealed")}
    for name in forgotten:
        setattr(server, f"{name}_sealed", "")
    return frozenset(forgotten)


def _stop_connections(server: McpServer, *, now: datetime) -> int:
    # What was found at the old target is asked again; the approved issuer stays, so that a move still needs approval.
    # The move of the old target is nobody's any more: neither to be approved, nor to be taken back by the new one.
    ServerDiscovery.objects.filter(server=server).update(
        authorization_server=None, expires_at=None, failed_at=None, new_issuer=""
    )
    lock_grants(server.connections.values_list("pk", flat=True))
    # A refresh that is on its way loses its lease, so that its answer brings no connection back to life.
    TokenSet.objects.filter(connection__server=server).update(lease_owner="", lease_expires_at=None)
    for connection in server.connections.all():
        # Also those whose code is being redeemed at the old target right now.
        connection.authorization_requests.filter(status="pending").update(
            status="failed",
            error_code="issuer_changed",
            expires_at=now,
            state_sealed="",
            code_verifier_sealed="",
            held_tokens_sealed="",
        )
    # Who somebody is at the company's sign-in was told for the target of that time.
    server.connections.exclude(subject_token_sealed="").update(subject_token_sealed="", subject_token_type="")
    with_grant = Q(tokens__isnull=False)
    if server.auth_type == McpServer.AuthType.OAUTH:
        with_grant |= Q(status__in=_GRANTED)
    return Connection.objects.filter(with_grant, server=server).update(
        status=Connection.Status.ISSUER_CHANGED, reason="issuer_changed", updated_at=now
    )
