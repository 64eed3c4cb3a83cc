"""Disconnect: revoke at the authorization server, then forget."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from connections.models import Connection, FlowTrace, TokenSet
from connections.services import forget_grant
from oauthflow.egress import Egress, Limits
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.client_auth import ClientCredentials
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import FlowError, SecretUnreadableError
from oauthflow.protocol.revocation import read_revocation_response, revocation_request
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.token_endpoint import TokenResponse

from .attempt import traced
from .held_grant import give_up, held_by
from .register_client import credentials_of

if TYPE_CHECKING:
    from django.contrib.auth.models import User

Hint: TypeAlias = Literal["refresh_token", "access_token"]
_TRIES = 3


def revoke_connection(connection: Connection, *, actor: User | None, reason: str, now: datetime) -> Connection:
    """Revoke the tokens upstream as far as the server lets us, and forget them here in any case.

    Spec: RFC 7009 §2.1.
    """
    _revoke_what_waits(connection, actor=actor, now=now)
    outcome = "nothing stored"
    stored = TokenSet.objects.select_related("connection__server", "registration").filter(connection=connection)
    for _ in range(_TRIES):
        token_set = stored.first()
        if token_set is None:
            break
        outcome = _revoke_stored(token_set, actor=actor, now=now)
        if not stored.filter(generation__gt=token_set.generation).exists():
            break  # else a refresh has stored newer tokens in the meantime, and those are revoked as well
    forget_grant(connection, actor=actor, reason=reason or "disconnected", revoked_upstream=outcome)
    return connection


def revoke_upstream(
    grant: TokenSet | AuthorizationRequest,
    tokens: Sequence[tuple[Hint, Secret | None]],
    *,
    actor: User | None,
    now: datetime,
) -> str:
    """Revoke tokens where this grant came from; return `yes`, `unsupported` or why it failed.

    The refresh token goes first: it is the grant. Servers that end only what they are told get both.
    """
    if not grant.revocation_endpoint:
        return "unsupported"
    connection = grant.connection
    try:
        with traced(connection.server, kind=FlowTrace.Kind.REVOKE, connection=connection, user=actor) as http:
            client = credentials_of(
                connection.server,
                client_id=grant.client_id,
                auth_method=grant.auth_method,
                registration=grant.registration,
            )
            for hint, token in tokens:
                if token:
                    _send(grant, client, hint=hint, token=token, http=http, now=now)
    except FlowError as error:
        return f"failed: {error.code}"
    return "yes"


def revoke_granted(request: AuthorizationRequest, tokens: TokenResponse, *, actor: User | None, now: datetime) -> str:
    """Revoke what was granted for a request and is not wanted; returns as `revoke_upstream`."""
    both: list[tuple[Hint, Secret | None]] = [
        ("refresh_token", tokens.refresh_token),
        ("access_token", tokens.access_token),
    ]
    return revoke_upstream(request, both, actor=actor, now=now)


def revoke_held(request: AuthorizationRequest, *, actor: User | None, now: datetime) -> str:
    """Revoke what waited on a request that was given up; returns as `revoke_upstream`."""
    try:
        tokens = held_by(request).tokens
    except SecretUnreadableError as error:
        return f"failed: {error.code}"
    return revoke_granted(request, tokens, actor=actor, now=now)


def _revoke_what_waits(connection: Connection, *, actor: User | None, now: datetime) -> None:
    """Whoever disconnects decides about another account that came back as well."""
    for request in AuthorizationRequest.objects.holding_tokens().filter(connection=connection):
        if give_up(request, status=AuthorizationRequest.Status.FAILED, code=Code.ACCOUNT_CHANGED, actor=actor, now=now):
            revoke_held(request, actor=actor, now=now)


def _revoke_stored(token_set: TokenSet, *, actor: User | None, now: datetime) -> str:
    try:
        tokens: list[tuple[Hint, Secret | None]] = [
            ("refresh_token", token_set.refresh_token_sealed.reveal()),
            ("access_token", token_set.access_token_sealed.reveal()),
        ]
    except SecretUnreadableError as error:
        return f"failed: {error.code}"
    return revoke_upstream(token_set, tokens, actor=actor, now=now)


def _send(
    grant: TokenSet | AuthorizationRequest,
    client: ClientCredentials,
    *,
    hint: Hint,
    token: Secret,
    http: Egress,
    now: datetime,
) -> None:
    request = revocation_request(
        endpoint=grant.revocation_endpoint,
        token=token,
        hint=hint,
        client=client,
        issuer=grant.issuer,
        now=now,
    )
    read_revocation_response(http.send(request, limits=Limits.REVOCATION, step=f"revoke {hint}"))
    http.trace.verdict("revoked")
