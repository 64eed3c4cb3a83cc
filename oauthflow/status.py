"""What a connection or an attempt looks like from outside, the same for all faces. No network, no secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from connections.models import Connection, McpServer
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.codes import SENTENCES, Code

_NEEDS_A_PERSON: Final = (Connection.Status.PENDING, Connection.Status.REAUTH_REQUIRED, Connection.Status.REVOKED)


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """How a connection stands. Public contract, section 5: `MCPOAuthConnectionStatus`.

    Attributes:
        has_valid_tokens: The next call works without a person: the access token has not ended, or can be refreshed.
        token_expires_at: Aware UTC; None where there is no token or it came without a lifetime.
        requires_reauthorization: Only a person at the provider can bring it (back) to work.
        reauthorization_reason: One of our codes, or the words of whoever disconnected it.
        granted_scopes: Space separated.
    """

    connection_id: UUID
    is_oauth_enabled: bool
    has_valid_tokens: bool
    is_access_token_expired: bool
    token_expires_at: datetime | None
    has_refresh_token: bool
    requires_reauthorization: bool
    reauthorization_reason: str
    issuer_url: str
    granted_scopes: str


@dataclass(frozen=True, slots=True)
class AuthorizationStatus:
    """How one attempt at an authorization stands, for whoever polls. Public contract, section 4: `oauth/status`."""

    status: str
    connection_id: UUID
    initiated_at: datetime
    completed_at: datetime | None
    error_code: str
    error_message: str
    is_retryable: bool


def connection_status(connection: Connection, *, now: datetime) -> ConnectionStatus:
    """Describe a connection as it is stored at this moment."""
    tokens = connection.token_set
    expires_at = tokens.expires_at if tokens else None
    expired = expires_at is not None and expires_at <= now
    has_refresh_token = bool(tokens and tokens.refresh_token_sealed)
    is_oauth = connection.server.auth_type == McpServer.AuthType.OAUTH
    has_ended = connection.status in _NEEDS_A_PERSON
    comes_by_itself = connection.server.is_unattended and connection.status == Connection.Status.PENDING
    needs_person = is_oauth and has_ended and not comes_by_itself
    return ConnectionStatus(
        connection_id=connection.pk,
        is_oauth_enabled=is_oauth,
        has_valid_tokens=connection.status in Connection.WORKING
        and tokens is not None
        and (not expired or tokens.is_renewable),
        is_access_token_expired=expired,
        token_expires_at=expires_at,
        has_refresh_token=has_refresh_token,
        requires_reauthorization=needs_person,
        reauthorization_reason=connection.reason if needs_person else "",
        issuer_url=connection.issuer,
        granted_scopes=connection.granted_scopes,
    )


def authorization_status(request: AuthorizationRequest, *, now: datetime) -> AuthorizationStatus:
    """Describe an attempt; one that ran out is `expired` with the code that says so."""
    status = request.status_at(now)
    code = Code.AUTHORIZATION_TIMEOUT if status == AuthorizationRequest.Status.EXPIRED else request.error_code
    sentence = SENTENCES[Code(code)] if code else None
    return AuthorizationStatus(
        status=status,
        connection_id=request.connection_id,
        initiated_at=request.initiated_at,
        completed_at=request.completed_at,
        error_code=str(code),
        error_message=sentence.message if sentence else "",
        is_retryable=sentence.retryable if sentence else False,
    )
