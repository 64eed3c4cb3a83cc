"""Make a connection for which nobody has to sign in: find the terms, write them down, and let the refresh ask."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from connections.database_time import by_database
from connections.models import Connection, FlowTrace, McpServer
from connections.services import GrantTerms, prepare_grant
from oauthflow.protocol.client_auth import NONE, PRIVATE_KEY_JWT, ClientCredentials
from oauthflow.protocol.errors import DiscoveryError, InvalidRequestError, NotConfiguredError
from oauthflow.protocol.grant_types import JWT_BEARER_GRANT, GrantType
from oauthflow.protocol.registration import RegistrationMethod
from oauthflow.protocol.scopes import initial_scopes

from .attempt import traced
from .bind_tokens import wanted_token_type
from .discover import Discovered, discover
from .refresh import refresh_connection
from .register_client import resolve_client
from .start_authorization import resource_for

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from oauthflow.egress import Egress

_ON_THE_WIRE = {
    GrantType.CLIENT_CREDENTIALS: "client_credentials",
    GrantType.TOKEN_EXCHANGE: JWT_BEARER_GRANT,
    GrantType.JWT_BEARER: JWT_BEARER_GRANT,
}


def connect_unattended(
    connection: Connection, *, actor: User | None, now: datetime, trigger: str = "request"
) -> Connection:
    """Get access for a connection without a person at the service, or renew it under the terms of this moment.

    Args:
        connection: Of a server whose grant is no authorization code.
        actor: Who asked for it, None for the system.
        now: Aware UTC.
        trigger: As in `refresh_connection`.

    Returns:
        The connection; active.

    Raises:
        NotConfiguredError: The settings lack what this grant needs.
        AuthorizationRequiredError: The person has to sign in at the company's sign-in service first.
        GrantRefusedError: The authorization server refuses; it is not asked again before somebody connects again.
        FlowError: As `discover` and `refresh_connection`.
    """
    server = connection.server
    if not server.is_unattended:
        raise InvalidRequestError("a person has to sign in to this server")
    with traced(server, kind=FlowTrace.Kind.AUTHORIZE, connection=connection, user=actor) as http:
        found = discover(server, http=http, now=now)
        http.require_allowed(found.metadata.token_endpoint, step="endpoints")
        terms = unattended_terms(server, found, http=http, now=now)
    moment = by_database(now)
    prepare_grant(connection, terms=terms, now=moment)
    return refresh_connection(connection, now=moment, trigger=trigger, actor=actor)


def unattended_terms(server: McpServer, found: Discovered, *, http: Egress, now: datetime) -> GrantTerms:
    """Return under which terms access is asked for; nothing is sent.

    Raises:
        DiscoveryError: The authorization server says that it does not offer this grant, or takes no proof of ours.
        NotConfiguredError: The settings lack what this grant needs.
        NoClientError: The client entered by hand belongs to another issuer.
    """
    grant = GrantType(server.grant_type)
    _require_offered(found, grant)
    client, method = _client(server, found, http=http, now=now)
    resource = resource_for(server, found)
    if grant is GrantType.TOKEN_EXCHANGE and not resource:
        raise NotConfiguredError("an identity assertion names the server's resource, and the settings leave it out")
    scope = initial_scopes(
        configured=server.scopes,
        challenge=found.challenge_scope,
        scopes_supported=found.scopes_supported,
        as_scopes_supported=None,
    )
    return GrantTerms(
        issuer=found.issuer,
        token_endpoint=found.metadata.token_endpoint,
        revocation_endpoint=found.metadata.revocation_endpoint or "",
        resource=resource,
        client_id=client.client_id,
        auth_method=client.auth_method,
        registration=None,
        registration_method=method,
        requested_scope=scope,
        grant_type=grant.value,
        wanted_token_type=wanted_token_type(server, found),
    )


def _client(server: McpServer, found: Discovered, *, http: Egress, now: datetime) -> tuple[ClientCredentials, str]:
    """Return who asks. By these grants nobody registers: the client is entered, or the platform's JWT says it."""
    if server.grant_type == GrantType.JWT_BEARER:
        return ClientCredentials("", None, NONE, None), ""
    if not server.client_id:
        raise NotConfiguredError("this grant needs a client that is registered at the service")
    client = resolve_client(server, found, scope="", http=http, now=now)
    if client.method != RegistrationMethod.PRE_REGISTERED:
        raise NotConfiguredError("this grant needs the client entered here; the server's settings choose another way")
    if client.credentials.auth_method == NONE:
        raise NotConfiguredError("this grant needs a client secret or a private key that the service accepts")
    if client.credentials.auth_method == PRIVATE_KEY_JWT and client.credentials.signing_key is None:
        raise NotConfiguredError("private_key_jwt needs a private key, entered here or in SIGNING_KEYS")
    return client.credentials, client.method


def _require_offered(found: Discovered, grant: GrantType) -> None:
    offered = found.metadata.grant_types_supported
    if offered is not None and _ON_THE_WIRE[grant] not in offered:
        raise DiscoveryError(f"the authorization server does not offer {_ON_THE_WIRE[grant]} (grant_types_supported)")
