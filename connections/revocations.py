"""End grants and registrations here, and note what their services still have to be told. No network.

Whatever deletes tokens or a registration notes it in the same transaction, so that nothing is forgotten here that is
still good elsewhere. Z05. What is deleted together with a server, a person or a connection comes from `deletions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from django.db import transaction

from audit.append import append_many
from audit.events import AuditEvent
from audit.record import entry
from oauthflow.protocol.client_auth import PRIVATE_KEY_JWT, SECRET_METHODS
from oauthflow.protocol.errors import FlowError, NoClientError
from oauthflow.protocol.secret import Secret

from .lock_order import lock_grants
from .models import ClientRegistration, Connection, McpServer, Revocation, TokenSet

if TYPE_CHECKING:
    from django.contrib.auth.models import User

PATIENCE: Final = timedelta(hours=24)
QUEUED: Final = "queued"
NOTHING_STORED: Final = "nothing stored"
_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Granted:
    """Where tokens came from, as it was pinned when they were granted. Empty `endpoint`: nothing revokes there."""

    server: McpServer
    issuer: str
    endpoint: str
    client_id: str
    auth_method: str
    registration: ClientRegistration | None

    @classmethod
    def of(cls, token_set: TokenSet) -> Granted:
        """Read it from stored tokens, with their connection's server."""
        return cls(
            token_set.connection.server, token_set.issuer, token_set.revocation_endpoint,
            token_set.client_id, token_set.auth_method, token_set.registration,
        )  # fmt: skip


def client_secret_of(
    server: McpServer, *, client_id: str, auth_method: str, registration: ClientRegistration | None
) -> Secret | None:
    """Return the secret under which a request or a token was made, or the private key; None where there is neither.

    Raises:
        NoClientError: The pre-registered client has been replaced since.
        SecretUnreadableError: It does not open.
    """
    if registration is not None:
        return registration.client_secret_sealed.reveal() or None
    if auth_method == PRIVATE_KEY_JWT:
        return server.client_private_key_sealed.reveal() or None
    if auth_method not in SECRET_METHODS:
        return None
    if client_id != server.client_id:
        raise NoClientError("the pre-registered client was changed since")
    return server.client_secret_sealed.reveal()


def end_grants(
    connections: Sequence[Connection], *, actor: User | None, reason: str, now: datetime
) -> list[Revocation]:
    """Delete the tokens of connections and mark these as disconnected, at once and for every process.

    Whose account it was is forgotten with the tokens. What can be revoked at a service is noted and returned.

    Args:
        connections: Their `status` and `reason` are updated in place.
        actor: Who asked for it, None for the system.
        reason: In the words of whoever asked; at most 200 characters, without what a database cannot store.
        now: Aware UTC.
    """
    reason = reason.replace("\0", "")
    noted: list[Revocation] = []
    for start in range(0, len(connections), _PAGE):
        with transaction.atomic():
            noted += _end(connections[start : start + _PAGE], actor=actor, reason=reason, now=now)
    return noted


def note_tokens(
    granted: Granted, *, connection: Connection, tokens: tuple[Secret | None, Secret | None], reason: str, now: datetime
) -> None:
    """Note the tokens of a grant that was never stored or is stored no more.

    Args:
        granted: Where they came from.
        connection: For whom, for the record; it may be gone.
        tokens: Refresh and access token, each where there is one.
        reason: For the record.
        now: Aware UTC.
    """
    row, _ = _row(granted, connection_id=connection.pk, tokens=tokens, reason=reason, now=now)
    if row is not None:
        row.save(force_insert=True)


def note_token_set(token_set: TokenSet, *, reason: str, now: datetime) -> None:
    """Note stored tokens that are about to be deleted."""
    row, _ = _row_of(token_set, reason=reason, now=now)
    if row is not None:
        row.save(force_insert=True)


def note_registration(registration: ClientRegistration, *, reason: str, now: datetime) -> None:
    """Note a registration that is about to be deleted, where its server lets us delete it.

    Spec: RFC 7592 §2.3. The address was found to be the issuer's own when it was kept.
    """
    sealed = registration.registration_access_token_sealed
    if not registration.registration_client_uri or not sealed:
        return
    try:
        token = sealed.reveal()
    except FlowError:  # nobody could send it
        return
    row = _new(
        Revocation.Kind.REGISTRATION, registration.server, registration.issuer, registration.registration_client_uri,
        registration.client_id, now=now,
    )  # fmt: skip
    row.auth_method, row.reason = registration.auth_method, reason[:200]
    row.registration_access_token_sealed = token
    row.save(force_insert=True)


def _end(connections: Sequence[Connection], *, actor: User | None, reason: str, now: datetime) -> list[Revocation]:
    ids = [connection.pk for connection in connections]
    lock_grants(ids)
    stored = TokenSet.objects.select_related("connection__server", "registration").filter(connection__in=ids)
    rows: list[Revocation] = []
    said = {}
    for token_set in stored:
        row, said[token_set.connection_id] = _row_of(token_set, reason=reason, now=now)
        rows += [row] if row is not None else []
    Revocation.objects.bulk_create(rows)
    _delete_noted(ids)
    ended = {
        "status": Connection.Status.REVOKED, "reason": reason[:200], "granted_scopes": "", "requested_scopes": "",
        "upstream_subject": "", "subject_token_sealed": "", "subject_token_type": "", "updated_at": now,
    }  # fmt: skip
    Connection.objects.filter(pk__in=ids).update(**ended)
    for connection in connections:
        vars(connection).update(ended)
    append_many(
        [
            entry(
                AuditEvent.CREDENTIALS_REVOKED,
                actor=actor,
                server=connection.server.slug,
                connection=connection,
                reason=reason,
                details={"revoked_upstream": said.get(connection.pk, NOTHING_STORED), "user": connection.user_id},
            )
            for connection in connections
        ]
    )
    return rows


def _delete_noted(connection_ids: Sequence[UUID]) -> None:
    """Without the receivers of `deletions`, which would note them a second time."""
    found = TokenSet.objects.filter(connection__in=connection_ids)
    found._raw_delete(found.db)


def _row_of(token_set: TokenSet, *, reason: str, now: datetime) -> tuple[Revocation | None, str]:
    try:
        tokens = token_set.refresh_token_sealed.reveal(), token_set.access_token_sealed.reveal()
    except FlowError as error:
        return None, f"failed: {error.code}"
    return _row(Granted.of(token_set), connection_id=token_set.connection_id, tokens=tokens, reason=reason, now=now)


def _row(
    granted: Granted, *, connection_id: UUID, tokens: tuple[Secret | None, Secret | None], reason: str, now: datetime
) -> tuple[Revocation | None, str]:
    refresh_token, access_token = tokens
    if not (refresh_token or access_token):
        return None, NOTHING_STORED
    if not granted.endpoint:
        return None, Revocation.Outcome.UNSUPPORTED
    try:
        secret = client_secret_of(
            granted.server,
            client_id=granted.client_id,
            auth_method=granted.auth_method,
            registration=granted.registration,
        )
    except FlowError as error:
        return None, f"failed: {error.code}"
    row = _new(Revocation.Kind.GRANT, granted.server, granted.issuer, granted.endpoint, granted.client_id, now=now)
    row.connection_id, row.auth_method, row.reason = connection_id, granted.auth_method, reason[:200]
    row.refresh_token_sealed, row.access_token_sealed = refresh_token, access_token
    row.client_secret_sealed = secret
    return row, QUEUED


def _new(
    kind: Revocation.Kind, server: McpServer, issuer: str, endpoint: str, client_id: str, *, now: datetime
) -> Revocation:
    return Revocation(
        kind=kind, server=server.slug, issuer=issuer, endpoint=endpoint, client_id=client_id,
        created_at=now, next_attempt_at=now, give_up_at=now + PATIENCE,
    )  # fmt: skip
