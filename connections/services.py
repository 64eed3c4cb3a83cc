"""Every write that matters to a connection, each with its audit record in the same transaction. No network."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet

from audit.append import appended_last
from audit.events import AuditEvent
from audit.record import record
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import InvalidRequestError
from oauthflow.protocol.grant_types import GrantType
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.token_endpoint import TokenResponse

from .key_fingerprints import missing_keys
from .lock_order import lock_grants
from .models import ClientRegistration, Connection, McpServer, TokenSet
from .server_changes import lock_target

if TYPE_CHECKING:
    from django.contrib.auth.models import User

Policy = McpServer.ConnectionPolicy
Status = Connection.Status

BACKGROUND_MARGIN = timedelta(minutes=15)
KEEP_ALIVE = timedelta(days=1)
SHORTEST_WAIT = timedelta(seconds=30)
"""A life of no seconds, which some servers give for want of any, has no service asked again and again."""
_random = secrets.SystemRandom()
LONGEST_SCOPE = 1000
"""Characters; what the columns for scopes hold."""


@dataclass(frozen=True, slots=True)
class GrantTerms:
    """What a token was granted under, and what its refresh needs. Empty `resource`: it is not sent.

    `wanted_token_type`: of the next token, whatever this one is; empty: the same.
    """

    issuer: str
    token_endpoint: str
    revocation_endpoint: str
    resource: str
    client_id: str
    auth_method: str
    registration: ClientRegistration | None
    registration_method: str
    requested_scope: str
    grant_type: str = GrantType.AUTHORIZATION_CODE.value
    wanted_token_type: str = ""


def may_connect(user: User, server: McpServer) -> bool:
    """Whether this user may make the connection that the server's policy provides for."""
    return server.connection_policy != Policy.SHARED or user.has_perm("connections.manage_shared_connection")


def connection_for(user: User, server: McpServer, *, label: str = "", actor: User) -> Connection:
    """Get or create the connection that this user would make to this server, as its policy says.

    Raises:
        InvalidRequestError: The server's connection is shared and this user may not manage it.
    """
    owner: User | None = user
    if server.connection_policy == Policy.SHARED:
        if not may_connect(actor, server):
            raise InvalidRequestError("the server's one connection is shared and managed by administrators")
        owner = None
    return _get_or_create(server, owner=owner, label=label)


def shared_connection(server: McpServer, *, label: str = "") -> Connection:
    """Get or create the shared connection of a server."""
    return _get_or_create(server, owner=None, label=label)


def _get_or_create(server: McpServer, *, owner: User | None, label: str) -> Connection:
    if "\0" in label:
        raise InvalidRequestError("the label holds a character that is no text")
    found = Connection.objects.filter(server=server, user=owner, label=label).first()
    if found is not None:
        return found
    needs_no_person = server.auth_type != McpServer.AuthType.OAUTH
    try:
        with transaction.atomic():
            return Connection.objects.create(
                server=server, user=owner, label=label, status=Status.ACTIVE if needs_no_person else Status.PENDING
            )
    except IntegrityError:  # another request created it in between
        return Connection.objects.get(server=server, user=owner, label=label)


def default_connection(
    user: AbstractBaseUser | AnonymousUser, server: McpServer, *, label: str | None = None
) -> Connection | None:
    """Return the connection that a program of this user means by naming the server: see `preferred`.

    Never anybody else's, and never a shared one where the server's policy is personal. Z07.
    """
    if not user.is_authenticated:
        return None
    policy = server.connection_policy
    mine = Q(pk__in=[]) if policy == Policy.SHARED else Q(user=user)
    shared = Q(pk__in=[]) if policy == Policy.PERSONAL else Q(user__isnull=True)
    candidates = Connection.objects.filter(mine | shared, server=server).select_related("server", "user")
    if label is not None:
        candidates = candidates.filter(label=label)
    return preferred(candidates)


def preferred(candidates: Iterable[Connection]) -> Connection | None:
    """Return the connection of one person and server that is used where nobody names another; None of none.

    Usable ones come first, then their own before a shared one, then the one that was connected last.
    """

    def order(found: Connection) -> tuple[object, ...]:
        connected_at = found.connected_at or found.created_at
        return found.status in (Status.PENDING, Status.REVOKED), found.is_shared, -connected_at.timestamp(), found.pk

    return min(candidates, key=order, default=None)


def fitting_scope(scope: str) -> str:
    """Return as many whole scopes of another server's list as are kept."""
    return scope if len(scope) <= LONGEST_SCOPE else scope[: LONGEST_SCOPE + 1].rpartition(" ")[0]


def store_grant(
    connection: Connection,
    tokens: TokenResponse,
    *,
    terms: GrantTerms,
    actor: User | None,
    now: datetime,
    reason: str = "",
) -> TokenSet:
    """Keep the tokens of a finished authorization in place of whatever was there; the connection becomes active.

    Args:
        connection: As it is stored at this moment, after `lock_for_grant`.
        tokens: What was granted.
        terms: Under what.
        actor: Who finished the authorization.
        now: When the tokens were received, aware UTC.
        reason: One of our codes, for the audit record, where the grant needed a decision.
    """
    with transaction.atomic():
        before = TokenSet.objects.select_for_update(no_key=True).filter(connection=connection).first()
        kept = before or TokenSet(connection=connection, generation=0)
        kept.generation += 1
        kept.grant_type, kept.wanted_token_type = terms.grant_type, terms.wanted_token_type
        _put(tokens, into=kept, now=now)
        kept.issuer, kept.client_id, kept.auth_method = terms.issuer, terms.client_id, terms.auth_method
        kept.token_endpoint, kept.revocation_endpoint = terms.token_endpoint, terms.revocation_endpoint
        kept.resource, kept.registration = terms.resource, terms.registration
        kept.lease_owner, kept.lease_expires_at = "", None
        kept.refresh_failures, kept.next_attempt_at = 0, None
        kept.save()
        connection.status, connection.reason, connection.connected_at = Status.ACTIVE, "", now
        connection.requested_scopes, connection.granted_scopes = terms.requested_scope, kept.scope
        if tokens.subject or connection.issuer != terms.issuer:
            # Else it is unknown which account this is, and the last one that is known of this issuer stays in mind.
            connection.upstream_subject = tokens.subject
        connection.issuer, connection.registration_method = terms.issuer, terms.registration_method
        connection.save()
        _wake_those_vouched_for(connection)
        record(
            AuditEvent.AUTHORIZATION_COMPLETED,
            actor=actor,
            server=connection.server.slug,
            connection=connection,
            reason=reason,
            details={
                "issuer": terms.issuer,
                "scope": kept.scope,
                "expires_at": tokens.expires_at,
                "has_refresh_token": tokens.refresh_token is not None,
                "registration_method": terms.registration_method,
                "grant_type": terms.grant_type,
            },
        )
    return kept


def lock_for_grant(connection: Connection) -> bool:
    """Let nobody else write what `store_grant` writes until the transaction ends; say whether it is still there."""
    lock_grants([connection.pk, *_vouched_for_by(connection).values_list("pk", flat=True)])
    return Connection.objects.filter(pk=connection.pk).exists()


def _put(tokens: TokenResponse, *, into: TokenSet, now: datetime) -> None:
    ends_at = tokens.refresh_ends_at
    into.access_token_sealed, into.refresh_token_sealed = tokens.access_token, tokens.refresh_token
    into.token_type, into.scope = tokens.token_type, fitting_scope(tokens.scope)
    into.obtained_at, into.expires_at = now, tokens.expires_at
    into.refresh_ends_at, into.refresh_end_known_since = ends_at, now if ends_at else None
    into.refresh_due_at = refresh_due_at(tokens, is_renewable=into.is_renewable, now=now, refresh_ends_at=ends_at)


def _wake_those_vouched_for(identity: Connection) -> None:
    """Somebody has signed in at the company's service: what waited for that is tried again at its next use."""
    waiting = _vouched_for_by(identity)
    TokenSet.objects.filter(connection__in=waiting).update(next_attempt_at=None)
    waiting.filter(status=Status.REAUTH_REQUIRED).update(status=Status.PENDING, reason="")


def _vouched_for_by(identity: Connection) -> QuerySet[Connection]:
    return Connection.objects.filter(server__identity_provider=identity.server_id, user=identity.user_id).order_by()


def delete_connection(connection: Connection) -> None:
    """Delete a connection with all that hangs on it."""
    with transaction.atomic(), appended_last():
        lock_grants([connection.pk])
        connection.delete()


def keep_subject_token(connection: Connection, token: Secret, *, kind: str) -> None:
    """Keep what says who the person is at the company's sign-in service, in place of an earlier one."""
    connection.subject_token_sealed, connection.subject_token_type = token, kind
    Connection.objects.filter(pk=connection.pk).update(
        subject_token_sealed=connection.subject_token_sealed.ciphertext, subject_token_type=kind
    )


def prepare_grant(connection: Connection, *, terms: GrantTerms, now: datetime) -> None:
    """Write down under which terms a grant without a person is asked for; the refresh then asks. Tokens stay as is.

    A row without tokens is of generation 0 and over already. Where a new target had stopped the connection, connecting
    it anew is what was waited for, as signing in is elsewhere.
    """
    kept = {
        "grant_type": terms.grant_type,
        "wanted_token_type": terms.wanted_token_type,
        "issuer": terms.issuer,
        "token_endpoint": terms.token_endpoint,
        "revocation_endpoint": terms.revocation_endpoint,
        "resource": terms.resource,
        "client_id": terms.client_id,
        "auth_method": terms.auth_method,
        "registration": terms.registration,
        "next_attempt_at": None,
    }
    mine = TokenSet.objects.filter(connection=connection)
    stopped = Connection.objects.filter(pk=connection.pk, status=Status.ISSUER_CHANGED)
    with transaction.atomic():
        lock_target(connection.server)
        lock_grants([connection.pk])
        if stopped.update(status=Status.PENDING, reason=""):
            mine.delete()
        # What another issuer or another grant gave is of no use under these terms, and must not be sent there.
        mine.exclude(issuer=terms.issuer, grant_type=terms.grant_type).delete()
        empty = {"generation": 0, "token_type": terms.wanted_token_type, "obtained_at": now, "expires_at": now}
        TokenSet.objects.get_or_create(connection=connection, defaults=empty | kept)
        mine.update(**kept)
        Connection.objects.filter(pk=connection.pk).update(
            issuer=terms.issuer,
            registration_method=terms.registration_method,
            requested_scopes=terms.requested_scope,
        )
    connection.refresh_from_db()


def refresh_due_at(
    tokens: TokenResponse, *, is_renewable: bool, now: datetime, refresh_ends_at: datetime | None = None
) -> datetime | None:
    """Return when the background should renew these tokens, or None where it cannot.

    A quarter of the life before the end and at least 15 minutes; half of the life where it is under 30 minutes. Up to
    a tenth of the life earlier, so that what was obtained together is not due together. And within a day in any case,
    also where no life was given: a refresh token that nobody uses may end before its access token does. Where it is
    known when that ends, then at half of its life. Never within half a minute.
    """
    waits = [KEEP_ALIVE * (1 - due_spread())]
    if tokens.expires_at is not None:
        life = tokens.expires_at - now
        margin = life / 2 if life < 2 * BACKGROUND_MARGIN else max(BACKGROUND_MARGIN, life / 4)
        waits.append(life - margin - min(life, KEEP_ALIVE) * due_spread())
    if refresh_ends_at is not None:
        waits.append((refresh_ends_at - now) / 2 * (1 - due_spread()))
    return now + max(min(waits), SHORTEST_WAIT) if is_renewable else None


def due_spread() -> float:
    """Return which part of a life, at most a tenth, these tokens are due earlier than others like them."""
    return _random.uniform(0, 0.1)


def record_refresh_failure(
    token_set: TokenSet, *, lease_owner: str, code: str, next_attempt_at: datetime | None, actor: User | None
) -> None:
    """Give the lease back after a failure that does not end the grant; the connection shows trouble."""
    connection = token_set.connection
    with transaction.atomic():
        held = TokenSet.objects.filter(pk=token_set.pk, lease_owner=lease_owner).update(
            lease_owner="",
            lease_expires_at=None,
            refresh_failures=F("refresh_failures") + 1,
            next_attempt_at=next_attempt_at,
        )
        if not held:
            return
        Connection.objects.filter(pk=connection.pk, status__in=Connection.WORKING).update(
            status=Status.DEGRADED, reason=code
        )
        Connection.objects.filter(pk=connection.pk, status=Status.PENDING).update(reason=code)
        record(
            AuditEvent.TOKEN_REFRESH_FAILED,
            actor=actor,
            server=connection.server.slug,
            connection=connection,
            reason=code,
            details={"retryable": True, "issuer": token_set.issuer},
        )


def require_reauthorization(
    connection: Connection, *, reason: str, actor: User | None = None, generation: int | None = None
) -> bool:
    """Mark that only a person can bring this connection back; registration, label and permissions stay.

    Args:
        connection: The connection whose grant has ended.
        reason: One of our codes.
        actor: Who found out, None for the system.
        generation: The generation of the tokens that were refused: when newer ones are stored by now, nothing changes.

    Returns:
        Whether the connection was marked.
    """
    with transaction.atomic():
        if generation is not None:
            still_there = TokenSet.objects.filter(connection=connection, generation=generation).update(
                lease_owner="", lease_expires_at=None
            )
            if not still_there:
                return False
        mine = Connection.objects.filter(pk=connection.pk).exclude(status=Status.ISSUER_CHANGED)
        if not mine.update(status=Status.REAUTH_REQUIRED, reason=reason):
            return False  # an administrator is asked first
        record(
            AuditEvent.REAUTHORIZATION_REQUIRED,
            actor=actor,
            server=connection.server.slug,
            connection=connection,
            reason=reason,
            details={"issuer": connection.issuer},
        )
    connection.status, connection.reason = Status.REAUTH_REQUIRED, reason
    return True


def mark(connection: Connection, *, status: str, reason: str) -> None:
    """Set a state that is neither a grant nor its end, for example an unreadable credential."""
    Connection.objects.filter(pk=connection.pk).update(status=status, reason=reason)
    connection.status, connection.reason = status, reason


def mark_unreadable(connection: Connection) -> None:
    """Show that a stored secret does not open.

    Nothing is changed where this host lacks a key that another one seals with: then the secret is good, and others
    serve it. K03, F20.
    """
    if not missing_keys():
        mark(connection, status=Status.KEY_UNAVAILABLE, reason=Code.CREDENTIAL_UNREADABLE)
