"""What was granted to another account of the service than before, put aside until somebody decides. S15.

The connection and its tokens stay as they are. The new tokens wait sealed on the authorization request, which stays
pending for whoever polls, with the code `account_changed`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from audit.events import AuditEvent
from audit.record import record
from connections.database_time import by_database
from connections.deletions import because_of
from connections.models import Connection
from connections.revocations import Granted, note_tokens
from connections.services import GrantTerms
from oauthflow.conf import configuration
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import SecretUnreadableError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.token_endpoint import DPOP, TokenResponse

if TYPE_CHECKING:
    from django.contrib.auth.models import User

Status = AuthorizationRequest.Status


@dataclass(frozen=True, slots=True)
class HeldGrant:
    """Tokens that wait, and when they were received."""

    tokens: TokenResponse
    received_at: datetime


def is_of_another_account(connection: Connection, tokens: TokenResponse, *, issuer: str) -> bool:
    """Whether both accounts are known, at the same issuer, and differ. An e-mail address or a name never counts.

    Args:
        connection: As it is stored at this moment.
        tokens: What was granted now.
        issuer: By whom.

    Spec: OpenID Connect Core §5.7: only `iss` and `sub` together identify an account.
    """
    known = connection.upstream_subject if connection.issuer == issuer else ""
    return bool(known and tokens.subject) and known != tokens.subject


def terms_of(request: AuthorizationRequest) -> GrantTerms:
    """Return the terms that were pinned when the request was made."""
    return GrantTerms(
        issuer=request.issuer,
        token_endpoint=request.token_endpoint,
        revocation_endpoint=request.revocation_endpoint,
        resource=request.resource,
        client_id=request.client_id,
        auth_method=request.auth_method,
        registration=request.registration,
        registration_method=request.registration_method,
        requested_scope=request.scope,
        # A plain access token may come with a refresh token that is bound to the key. RFC 9449 §5.
        wanted_token_type=DPOP if request.dpop_jkt else "",
    )


def hold(request: AuthorizationRequest, tokens: TokenResponse, *, now: datetime) -> None:
    """Put what was granted aside; there is as much time to decide as there is to sign in."""
    request.held_tokens_sealed = _packed(HeldGrant(tokens, by_database(now)))
    request.state_sealed = request.code_verifier_sealed = Secret("")
    request.error_code = Code.ACCOUNT_CHANGED
    request.expires_at = now + timedelta(seconds=configuration().authorization_request_lifetime_seconds)
    AuthorizationRequest.objects.filter(pk=request.pk).update(
        held_tokens_sealed=request.held_tokens_sealed,
        state_sealed="",
        code_verifier_sealed="",
        error_code=request.error_code,
        expires_at=request.expires_at,
    )


def held_by(request: AuthorizationRequest) -> HeldGrant:
    """Open what waits on this request; it has to hold something.

    Raises:
        SecretUnreadableError: It does not open.
    """
    said = json.loads(request.held_tokens_sealed.reveal().reveal())
    tokens = TokenResponse(
        access_token=Secret(said["access_token"]),
        token_type=said["token_type"],
        expires_at=_moment(said["expires_at"]),
        refresh_token=Secret(said["refresh_token"]) if said["refresh_token"] else None,
        scope=said["scope"],
        subject=said["subject"],
        refresh_ends_at=_moment(said.get("refresh_ends_at")),  # the release before did not keep it
    )
    return HeldGrant(tokens, datetime.fromisoformat(said["received_at"]))


def take(request: AuthorizationRequest, *, status: str, code: str, now: datetime) -> bool:
    """End the wait of a request by one conditional UPDATE; say whether this caller ended it.

    The row loses the tokens. The instance keeps them sealed.
    """
    taken = AuthorizationRequest.objects.filter(
        pk=request.pk, status=Status.PENDING, error_code=Code.ACCOUNT_CHANGED
    ).update(status=status, error_code=code, completed_at=now, held_tokens_sealed="")
    if taken:
        request.status, request.error_code, request.completed_at = status, code, now
    return bool(taken)


def give_up(request: AuthorizationRequest, *, status: str, code: Code, actor: User | None, now: datetime) -> bool:
    """End the wait without the new account, with the audit record; what was granted is noted to be revoked.

    Returns:
        Whether this caller ended it.
    """
    with transaction.atomic():
        if not take(request, status=status, code=code, now=now):
            return False
        give_back_held(request, reason=code, now=now)
        record(
            AuditEvent.AUTHORIZATION_FAILED,
            actor=actor,
            server=request.connection.server.slug,
            connection=request.connection,
            reason=code,
            details={"issuer": request.issuer, "retryable": True, "request": request.pk},
        )
    return True


def give_back(request: AuthorizationRequest, tokens: TokenResponse, *, reason: str, now: datetime) -> None:
    """Note what was granted for a request and is not wanted, so that it is revoked at its service."""
    granted = Granted(
        request.connection.server, request.issuer, request.revocation_endpoint,
        request.client_id, request.auth_method, request.registration,
    )  # fmt: skip
    both = (tokens.refresh_token, tokens.access_token)
    note_tokens(granted, connection=request.connection, tokens=both, reason=reason, now=now)


def give_back_held(request: AuthorizationRequest, *, reason: str, now: datetime) -> None:
    """Note what waits on a request; what does not open cannot be revoked."""
    try:
        tokens = held_by(request).tokens
    except SecretUnreadableError:
        return
    give_back(request, tokens, reason=reason, now=now)


def give_back_deleted(sender: object, *, instance: AuthorizationRequest, origin: object = None, **kwargs: Any) -> None:
    """Note what waits on a request that is about to be deleted. Receives `pre_delete`."""
    if instance.held_tokens_sealed:
        give_back_held(instance, reason=because_of(origin), now=timezone.now())


def _packed(held: HeldGrant) -> Secret:
    tokens = held.tokens
    said = {
        "access_token": tokens.access_token.reveal(),
        "token_type": tokens.token_type,
        "expires_at": tokens.expires_at.isoformat() if tokens.expires_at else None,
        "refresh_ends_at": tokens.refresh_ends_at.isoformat() if tokens.refresh_ends_at else None,
        "refresh_token": tokens.refresh_token.reveal() if tokens.refresh_token else None,
        "scope": tokens.scope,
        "subject": tokens.subject,
        "received_at": held.received_at.isoformat(),
    }
    return Secret(json.dumps(said))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
