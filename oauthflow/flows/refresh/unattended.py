"""The request by which a grant without a person is renewed: a new token request under the same terms."""

from __future__ import annotations

from datetime import datetime

from connections.models import TokenSet
from oauthflow.egress import Egress
from oauthflow.protocol.client_auth import ClientCredentials
from oauthflow.protocol.grant_types import GrantType
from oauthflow.protocol.messages import Request
from oauthflow.protocol.unattended import client_credentials_request, jwt_bearer_request

from ..register_client import credentials_of
from .assertions import platform_assertion
from .identity import identity_assertion, require_identity


def unattended_request(grant: TokenSet, *, now: datetime) -> Request | None:
    """Make the request, or None where another service has to be asked first: then `request_with_identity` makes it.

    Raises:
        AuthorizationRequiredError: Somebody has to sign in at the company's sign-in service first.
        NoClientError: The client was replaced, or what the grant needs is not there.
        SecretUnreadableError: A stored secret does not open.
    """
    if grant.grant_type == GrantType.TOKEN_EXCHANGE:
        require_identity(grant.connection)
        return None
    scope, resource = grant.connection.requested_scopes, grant.resource or None
    if grant.grant_type == GrantType.JWT_BEARER:
        return jwt_bearer_request(
            token_endpoint=grant.token_endpoint,
            assertion=platform_assertion(grant.connection.server, token_endpoint=grant.token_endpoint, now=now),
            scope=scope,
            resource=resource,
            client=None,
            issuer=grant.issuer,
            now=now,
        )
    return client_credentials_request(
        token_endpoint=grant.token_endpoint,
        scope=scope,
        resource=resource,
        client=_client_of(grant),
        issuer=grant.issuer,
        now=now,
    )


def request_with_identity(grant: TokenSet, *, http: Egress, now: datetime) -> Request:
    """Ask the company's sign-in service for an identity assertion, and make the request that presents it.

    Raises:
        FlowError: As `identity_assertion`.
    """
    scope = grant.connection.requested_scopes
    return jwt_bearer_request(
        token_endpoint=grant.token_endpoint,
        assertion=identity_assertion(grant, scope=scope, http=http, now=now),
        scope=scope,
        resource=grant.resource or None,
        client=_client_of(grant),
        issuer=grant.issuer,
        now=now,
    )


def _client_of(grant: TokenSet) -> ClientCredentials:
    return credentials_of(
        grant.connection.server,
        client_id=grant.client_id,
        auth_method=grant.auth_method,
        registration=grant.registration,
    )
