"""Enterprise-managed authorization: the company's sign-in vouches for a person at a server's authorization server.

The entry of the sign-in service is configured like a server. Somebody's connection to it, by an ordinary sign-in, holds
the refresh token that says who they are; a program may hand in an ID Token for a connection instead. SEP-990.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from connections.leases import give_lease_back, lease_for_refresh
from connections.models import Connection, McpServer, TokenSet
from oauthflow.conf import configuration
from oauthflow.egress import Egress, Limits, leave_database
from oauthflow.protocol.client_auth import ClientCredentials
from oauthflow.protocol.errors import AuthorizationRequiredError, ClientRefusedError, FlowError, NotConfiguredError
from oauthflow.protocol.retry_after import ServerUnavailableError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.unattended import (
    SubjectToken,
    SubjectTokenType,
    read_token_exchange_response,
    token_exchange_request,
)

from ..discover import discover
from ..register_client import credentials_of, resolve_client
from . import owners
from .health import note_failure, note_success, require_open

IDENTITY_REQUIRED: Final = "identity_required"
_PATIENCE_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class _SignInService:
    token_endpoint: str
    issuer: str
    client: ClientCredentials


def identity_connection(connection: Connection) -> Connection | None:
    """Return the connection at which to sign in at the company's service for this one: the same person's.

    Of several the first that works.
    """
    provider = connection.server.identity_provider
    if provider is None:
        return None
    found = Connection.objects.filter(server=provider, user=connection.user).select_related("server").order_by("label")
    return min(found, key=lambda one: one.status not in Connection.WORKING, default=None)


def require_identity(connection: Connection) -> None:
    """Check, without the network, that somebody can be vouched for.

    Raises:
        AuthorizationRequiredError: They have to sign in at the company's sign-in service first.
        NotConfiguredError: The server names no sign-in service.
    """
    if connection.server.identity_provider is None:
        raise NotConfiguredError("the server names no sign-in service of the company (identity_provider)")
    if not connection.subject_token_sealed:
        _stored_identity(connection)


def identity_assertion(grant: TokenSet, *, scope: str, http: Egress, now: datetime) -> Secret:
    """Ask the company's sign-in service for the grant (ID-JAG) that the server's authorization server accepts.

    Raises:
        AuthorizationRequiredError: Nobody is signed in there.
        GrantRefusedError: That sign-in has ended.
        FlowError: The service cannot be reached, or refuses.

    Spec: RFC 8693 §2.1; SEP-990: `audience` is the authorization server's issuer, `resource` the MCP server.
    """
    connection = grant.connection
    with _subject(connection, http=http, now=now) as (subject, service):
        request = token_exchange_request(
            token_endpoint=service.token_endpoint,
            subject=subject,
            audience=grant.issuer,
            resource=grant.resource,
            scope=scope,
            client=service.client,
            issuer=service.issuer,
            now=now,
        )
        response = http.send(request, limits=Limits.TOKEN, step="identity assertion")
        return read_token_exchange_response(response, received_at=now)


@contextmanager
def _subject(connection: Connection, *, http: Egress, now: datetime) -> Iterator[tuple[SubjectToken, _SignInService]]:
    provider = connection.server.identity_provider
    if provider is None:
        raise NotConfiguredError("the server names no sign-in service of the company (identity_provider)")
    if connection.subject_token_sealed:
        given = SubjectToken(connection.subject_token_sealed.reveal(), connection.subject_token_type)
        yield given, _asked_service(provider, http=http, now=now)
        return
    require_open(_stored_identity(connection), now=now)
    with _held_still(connection) as identity, _heard(identity, now=now):
        subject = SubjectToken(identity.refresh_token_sealed.reveal(), SubjectTokenType.REFRESH_TOKEN)
        yield subject, _SignInService(identity.token_endpoint, identity.issuer, _client_of(identity))


def _asked_service(provider: McpServer, *, http: Egress, now: datetime) -> _SignInService:
    found = discover(provider, http=http, now=now)
    client = resolve_client(provider, found, scope="", http=http, now=now)
    return _SignInService(found.metadata.token_endpoint, found.issuer, client.credentials)


def _client_of(identity: TokenSet) -> ClientCredentials:
    return credentials_of(
        identity.connection.server,
        client_id=identity.client_id,
        auth_method=identity.auth_method,
        registration=identity.registration,
    )


def _stored_identity(connection: Connection) -> TokenSet:
    """Return what says who the person is at the company's sign-in service; of several sign-ins the first that does."""
    mine = TokenSet.objects.filter(
        connection__server=connection.server.identity_provider,
        connection__user=connection.user,
        connection__status__in=Connection.WORKING,
    )
    saying = mine.exclude(refresh_token_sealed="").select_related("connection__server", "registration")
    found = saying.order_by("connection__label").first()
    if found is None:
        raise AuthorizationRequiredError("nobody is signed in at the company's service", reason=IDENTITY_REQUIRED)
    return found


@contextmanager
def _heard(identity: TokenSet, *, now: datetime) -> Iterator[None]:
    """A service that vouches for nobody is left alone as one that renews nothing is: else a run waits for each. R6.

    Where it only does not let us ask for others, it still renews the sign-ins themselves, which are not to end for it.
    """
    try:
        yield
    except ClientRefusedError:
        raise
    except FlowError as error:
        note_failure(identity, error, now=now)
        raise
    note_success(identity, now=now)


@contextmanager
def _held_still(connection: Connection) -> Iterator[TokenSet]:
    """Let nobody rotate the refresh token while it is presented: a service may take the old one for stolen.

    Who presents it for another connection of the person, or renews it, is soon done and waited for.
    """
    owner, until = owners.new_owner(), time.monotonic() + _PATIENCE_SECONDS
    identity = _stored_identity(connection)
    # Where somebody left it in the middle, it may have been replaced; whoever takes that over finds out. R4.
    while identity.lease_owner or not lease_for_refresh(identity, owner=owner, seconds=configuration().lease_seconds):
        if time.monotonic() >= until:
            raise ServerUnavailableError("the sign-in that vouches is being renewed", retry_after=1)
        leave_database()
        time.sleep(_POLL_SECONDS)
        identity = _stored_identity(connection)
    try:
        yield identity
    finally:
        give_lease_back(identity, lease_owner=owner)
