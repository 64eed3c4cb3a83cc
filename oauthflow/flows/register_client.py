"""Come by a client id at an authorization server: pre-registered, document, dynamic, or ask an administrator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction

from audit.events import AuditEvent
from audit.record import record
from connections.models import ClientRegistration, McpServer
from connections.profiles import profile_of
from connections.revocations import client_secret_of, note_registration
from connections.server_changes import lock_server
from oauthflow.conf import client_jwks_url, configuration, metadata_document_url, redirect_uri, served_from_web
from oauthflow.egress import Egress, Limits
from oauthflow.protocol.client_auth import (
    PRIVATE_KEY_JWT,
    ClientCredentials,
    auth_method_to_register,
    choose_auth_method,
)
from oauthflow.protocol.client_metadata import client_metadata
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import FlowError, InvalidRequestError, NoClientError, RegistrationError
from oauthflow.protocol.registration import (
    RegisteredClient,
    RegistrationMethod,
    choose_registration,
    read_registration_response,
    registration_request,
)
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.signing_key import SigningKey, read_signing_key

from .discover import Discovered

if TYPE_CHECKING:
    from django.contrib.auth.models import User

_LONGEST_CLIENT_ID = 500


@dataclass(frozen=True, slots=True)
class Client:
    """Us at one authorization server: how we got there and how we authenticate."""

    credentials: ClientCredentials
    method: RegistrationMethod
    registration: ClientRegistration | None = None


def signing_key() -> SigningKey | None:
    """Return our key for private_key_jwt, or None where none is configured."""
    keys: list[dict[str, str]] = settings.SIGNING_KEYS
    return SigningKey(keys[0]) if keys else None


def resolve_client(server: McpServer, found: Discovered, *, scope: str, http: Egress, now: datetime) -> Client:
    """Return the client to use at the discovered issuer, registering one where that is the way.

    Raises:
        NoClientError: There is no way; the detail tells an administrator what to register.
        RegistrationError: The server refused.

    Spec: MCP client registration; RFC 7591 §3. R-01, R-02, R-18 to R-21.
    """
    method = registration_method(server, found)
    if method == RegistrationMethod.PRE_REGISTERED:
        return _pre_registered(server, found)
    if method == RegistrationMethod.METADATA_DOCUMENT:
        return Client(ClientCredentials(metadata_document_url() or "", None, "none", None), method)
    registration = _usable_registration(server, found, now=now) or _register(
        server, found, scope=scope, http=http, now=now
    )
    return Client(registered_credentials(registration), method, registration)


def registration_method(server: McpServer, found: Discovered) -> RegistrationMethod:
    """Return the way to a client id at the discovered issuer; nothing is sent.

    Raises:
        NoClientError: There is none, or the client entered by hand belongs to another issuer. R-20.
    """
    policy = server.registration if server.registration != "auto" else profile_of(server.profile).registration
    method = choose_registration(
        policy=policy,
        has_client_id=bool(server.client_id),
        metadata=found.metadata,
        metadata_document_url=metadata_document_url(),
    )
    elsewhere = server.client_issuer and server.client_issuer != found.issuer
    if method == RegistrationMethod.PRE_REGISTERED and elsewhere:
        raise NoClientError(
            f"client {server.client_id} belongs to {server.client_issuer}; the server now uses {found.issuer}. "
            f"Register a client there with the redirect URI {redirect_uri()} and enter it."
        )
    return method


def credentials_of(
    server: McpServer, *, client_id: str, auth_method: str, registration: ClientRegistration | None
) -> ClientCredentials:
    """Return the credentials under which a request or a token was made, wherever their secret is kept.

    Raises:
        NoClientError: The pre-registered client has been replaced since.
    """
    secret = client_secret_of(server, client_id=client_id, auth_method=auth_method, registration=registration)
    return credentials_with(secret, client_id=client_id, auth_method=auth_method)


def credentials_with(secret: Secret | None, *, client_id: str, auth_method: str) -> ClientCredentials:
    """Return credentials.

    Args:
        secret: The client secret; with `private_key_jwt` the client's own private key, or None for the site's.
        client_id: As the authorization server knows it.
        auth_method: As agreed with it.
    """
    if auth_method != PRIVATE_KEY_JWT:
        return ClientCredentials(client_id, secret, auth_method, None)
    return ClientCredentials(client_id, None, auth_method, read_signing_key(secret) if secret else signing_key())


def registered_credentials(registration: ClientRegistration) -> ClientCredentials:
    """Return the credentials of a dynamic registration."""
    secret = registration.client_secret_sealed.reveal() or None
    return credentials_with(secret, client_id=registration.client_id, auth_method=registration.auth_method)


def supersede(registration: ClientRegistration) -> None:
    """Stop using a registration for new sign-ins: its server forgot it. Tokens keep it for refreshing."""
    ClientRegistration.objects.filter(pk=registration.pk).supersede()


def reset_registration(server: McpServer, *, actor: User) -> int:
    """Let the next sign-in register anew; return how many registrations were set aside."""
    with transaction.atomic():
        count = server.registrations.supersede()
        record(AuditEvent.SERVER_CHANGED, actor=actor, server=server.slug, details={"fields": ["registration"]})
    return count


def _pre_registered(server: McpServer, found: Discovered) -> Client:
    if not server.client_issuer:
        server.client_issuer = found.issuer
        McpServer.objects.filter(pk=server.pk).update(client_issuer=found.issuer)
    secret = server.client_secret_sealed.reveal() or None
    method = _auth_method(server, found, has_secret=secret is not None)
    key = _key_of(server) if method == "private_key_jwt" else None
    return Client(ClientCredentials(server.client_id, secret, method, key), RegistrationMethod.PRE_REGISTERED)


def _key_of(server: McpServer) -> SigningKey | None:
    """The client's own private key where one was entered, else the site's."""
    entered = server.client_private_key_sealed.reveal()
    return read_signing_key(entered) if entered else signing_key()


def _auth_method(server: McpServer, found: Discovered, *, has_secret: bool) -> str:
    wanted = server.token_endpoint_auth_method
    if wanted == "auto":
        wanted = profile_of(server.profile).auth_method
    return choose_auth_method(
        wanted=wanted,
        has_secret=has_secret,
        has_key=bool(server.client_private_key_sealed),
        supported=found.metadata.token_endpoint_auth_methods_supported,
    )


def _usable_registration(server: McpServer, found: Discovered, *, now: datetime) -> ClientRegistration | None:
    registration = server.registrations.filter(issuer=found.issuer, status=ClientRegistration.Status.ACTIVE).first()
    if registration is None:
        return None
    if registration.is_usable(redirect_uri=redirect_uri(), now=now):
        return registration
    supersede(registration)
    return None


def _register(server: McpServer, found: Discovered, *, scope: str, http: Egress, now: datetime) -> ClientRegistration:
    endpoint = found.metadata.registration_endpoint
    if endpoint is None:
        raise NoClientError(f"{found.issuer} offers no registration")
    wanted = server.token_endpoint_auth_method
    if wanted == "auto":
        wanted = auth_method_to_register(supported=found.metadata.token_endpoint_auth_methods_supported)
    described = client_metadata(
        client_name=configuration().client_name,
        redirect_uri=redirect_uri(),
        client_uri=settings.PUBLIC_URL,
        scope=scope,
        auth_method=wanted,
        jwks_uri=client_jwks_url() if wanted == "private_key_jwt" else None,
        web=served_from_web(),
    )
    try:
        registered = _registered(endpoint, described, issuer=found.issuer, http=http)
        if len(registered.client_id) > _LONGEST_CLIENT_ID:
            raise RegistrationError(f"registered under a client id of more than {_LONGEST_CLIENT_ID} characters")
    except FlowError as error:
        record(
            AuditEvent.CLIENT_REGISTRATION_FAILED,
            server=server.slug,
            reason=error.code,
            details={"issuer": found.issuer},
        )
        if isinstance(error, RegistrationError):
            error.detail += f". By hand: register the redirect URI {redirect_uri()} there and enter the client id here."
        raise
    http.trace.verdict(f"registered as {registered.client_id}")
    return _keep(server, found, registered, scope=scope, now=now)


def _registered(endpoint: str, described: dict[str, object], *, issuer: str, http: Egress) -> RegisteredClient:
    """Register; where our description is refused, once more without the scope.

    Some servers take the scopes of their resources in an authorization request, but only their own in a registration.
    """
    request = registration_request(endpoint, client=described)
    response = http.send(request, limits=Limits.REGISTRATION, step="registration")
    try:
        return read_registration_response(
            response,
            redirect_uri=redirect_uri(),
            issuer=issuer,
            requested_auth_method=str(described["token_endpoint_auth_method"]),
        )
    except RegistrationError as error:
        if error.code != Code.INVALID_CLIENT_METADATA or "scope" not in described:
            raise
        http.trace.verdict(f"{error.detail}; once more without scope")
    unscoped = {name: value for name, value in described.items() if name != "scope"}
    return _registered(endpoint, unscoped, issuer=issuer, http=http)


def _keep(
    server: McpServer, found: Discovered, registered: RegisteredClient, *, scope: str, now: datetime
) -> ClientRegistration:
    registration = ClientRegistration(
        server=server,
        issuer=found.issuer,
        client_id=registered.client_id,
        client_secret_expires_at=registered.secret_expires_at,
        auth_method=registered.auth_method,
        redirect_uri=redirect_uri(),
        scope=scope,
        registration_client_uri=registered.registration_client_uri or "",
    )
    registration.client_secret_sealed = registered.client_secret
    registration.registration_access_token_sealed = registered.registration_access_token
    try:
        with transaction.atomic():
            # Two sign-ins may register at the same time: the later one stays active, both finish with their own.
            lock_registrations(server)
            server.registrations.filter(issuer=found.issuer).supersede()
            registration.save()
            record(
                AuditEvent.CLIENT_REGISTERED,
                server=server.slug,
                client=registered.client_id,
                details={"issuer": found.issuer, "auth_method": registered.auth_method},
            )
    except InvalidRequestError:
        note_registration(registration, reason="server deleted", now=now)
        raise
    return registration


def lock_registrations(server: McpServer) -> None:
    """Let nobody else add, supersede or delete registrations of this server until the transaction ends.

    Raises:
        InvalidRequestError: The server was deleted meanwhile.
    """
    lock_server(server)
