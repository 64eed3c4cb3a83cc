"""Disconnect: revoke at the authorization server, then forget."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

from connections.models import Connection, FlowTrace, TokenSet
from connections.sealing import Sealed
from connections.services import forget_grant
from oauthflow.egress import Egress, Limits
from oauthflow.protocol.client_auth import ClientCredentials
from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.revocation import read_revocation_response, revocation_request

from .attempt import traced
from .register_client import credentials_of

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def revoke_connection(connection: Connection, *, actor: User | None, reason: str, now: datetime) -> Connection:
    """Revoke the tokens upstream as far as the server lets us, and forget them here in any case.

    Spec: RFC 7009 §2.1.
    """
    token_set = (
        TokenSet.objects.select_related("connection__server", "registration").filter(connection=connection).first()
    )
    outcome = "nothing stored"
    if token_set is not None:
        outcome = _revoke_upstream(token_set, actor=actor, now=now) if token_set.revocation_endpoint else "unsupported"
    forget_grant(connection, actor=actor, reason=reason or "disconnected", revoked_upstream=outcome)
    return connection


def _revoke_upstream(token_set: TokenSet, *, actor: User | None, now: datetime) -> str:
    connection = token_set.connection
    try:
        with traced(connection.server, kind=FlowTrace.Kind.REVOKE, connection=connection, user=actor) as http:
            client = credentials_of(
                connection.server,
                client_id=token_set.client_id,
                auth_method=token_set.auth_method,
                registration=token_set.registration,
            )
            _send(token_set, client, http=http, now=now)
    except FlowError as error:
        return f"failed: {error.code}"
    return "yes"


def _send(token_set: TokenSet, client: ClientCredentials, *, http: Egress, now: datetime) -> None:
    """The refresh token first: it is the grant. Servers that end only what they are told get both."""
    both: list[tuple[Literal["refresh_token", "access_token"], Sealed]] = [
        ("refresh_token", token_set.refresh_token_sealed),
        ("access_token", token_set.access_token_sealed),
    ]
    for hint, sealed in both:
        if not sealed:
            continue
        request = revocation_request(
            endpoint=token_set.revocation_endpoint,
            token=sealed.reveal(),
            hint=hint,
            client=client,
            issuer=token_set.issuer,
            now=now,
        )
        read_revocation_response(http.send(request, limits=Limits.REGISTRATION, step=f"revoke {hint}"))
        http.trace.verdict("revoked")
