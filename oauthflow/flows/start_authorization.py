"""Start an authorization: everything the callback will need is written down before anybody is sent anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction

from audit.events import AuditEvent
from audit.record import record
from connections.dpop_keys import dpop_key
from connections.models import ClientRegistration, Connection, FlowTrace, McpServer
from connections.profiles import profile_of
from connections.server_changes import lock_target
from connections.services import LONGEST_SCOPE, connection_for, shared_connection
from oauthflow.conf import configuration, redirect_uri
from oauthflow.egress import Egress
from oauthflow.models import AuthorizationRequest, hash_of
from oauthflow.protocol.authorization import authorization_parameters
from oauthflow.protocol.bearer import BearerChallenge
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import InvalidRequestError, StateError, TransportError
from oauthflow.protocol.pkce import new_code_verifier, new_state, s256_challenge
from oauthflow.protocol.registration import RegistrationMethod
from oauthflow.protocol.resource import canonical_resource
from oauthflow.protocol.scopes import format_scope, initial_scopes, parse_scope, step_up_scopes
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.token_endpoint import DPOP
from oauthflow.protocol.urls import validate_return_to

from .attempt import traced
from .bind_tokens import wanted_token_type
from .discover import Discovered, discover
from .mix_up import require_iss
from .refresh.identity import identity_connection
from .register_client import Client, resolve_client

if TYPE_CHECKING:
    from django.contrib.auth.models import User

_TRIES = 3


_WORTH_WAITING_FOR = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class StartedAuthorization:
    """A request that waits for a person. `authorization_url` is ours, or the server's own where it is manual."""

    request: AuthorizationRequest
    state: Secret
    authorization_url: str
    expires_at: datetime
    registration_method: str

    @property
    def used_dynamic_registration(self) -> bool:
        """Whether we are known there through RFC 7591."""
        return self.registration_method == RegistrationMethod.DYNAMIC


@dataclass(frozen=True, slots=True)
class BoundBrowser:
    """Where the browser goes next, and the cookie by which it is known when it comes back."""

    redirect_url: str
    cookie_name: str
    cookie_value: Secret
    max_age_seconds: int


def start_authorization(
    connection: Connection,
    *,
    user: User,
    now: datetime,
    additional_scopes: str = "",
    return_to: str = "",
    manual: bool = False,
    fresh: bool = False,
    challenge: BearerChallenge | None = None,
) -> StartedAuthorization:
    """Discover, register where needed, and write down a pending request.

    Args:
        connection: The connection that is to be granted; the user's own, or shared and managed by the user.
        user: Who asks; the same person must finish.
        now: Aware UTC.
        additional_scopes: Space separated, asked for as well.
        return_to: Path on this site to go to afterwards.
        manual: The person pastes the result, or a program hands it in; no browser of ours takes part.
        fresh: Do not trust cached metadata.
        challenge: What a client met at the server; its scopes are added (S-08).

    Raises:
        InvalidRequestError: A wrong `return_to`, a server without OAuth, a connection of somebody else, or one for
            which nobody signs in.
        FlowError: Discovery or registration failed.

    Where the company's sign-in vouches for people, it is that sign-in that is started.
    """
    connection = _to_sign_in(connection, user=user)
    server = connection.server
    _check_may_connect(connection, user=user)
    return_path = validate_return_to(return_to) if return_to else ""
    with traced(server, kind=FlowTrace.Kind.AUTHORIZE, connection=connection, user=user) as http:
        found = discover(server, http=http, now=now, fresh=fresh, challenge=challenge)
        require_iss(server, found)
        http.require_allowed(found.metadata.authorization_endpoint, found.metadata.token_endpoint, step="endpoints")
        scope = _scope(connection, found, additional=additional_scopes, challenge=challenge)
        if len(scope) > LONGEST_SCOPE:
            detail = f"the server names scopes of {len(scope)} characters; enter those that are needed at the server"
            raise InvalidRequestError(detail, code=Code.INVALID_SCOPE)
        is_bound = wanted_token_type(server, found) == DPOP
        thumbprint = dpop_key(connection).thumbprint if is_bound else ""
        for _ in range(_TRIES):
            client = resolve_client(server, found, scope=scope, http=http, now=now)
            request, state = _pending(connection, found, client, scope=scope, user=user, now=now)
            request.manual, request.return_to, request.dpop_jkt = manual, return_path, thumbprint
            if _save(request):
                break
        else:
            raise TransportError("its registration changes all the time", code=Code.TEMPORARILY_UNAVAILABLE)
        url = _authorization_server_url(request, http=http) if manual else _our_url(request)
    return StartedAuthorization(request, state, url, request.expires_at, client.method)


def waiting_authorization(
    connection: Connection, *, user: User, now: datetime, challenge: BearerChallenge | None = None, fresh: bool = False
) -> StartedAuthorization:
    """Return the request that already waits for this person, or start one: a program that asks again starts no more.

    Arguments and errors as `start_authorization`. A request that a browser took up, that asks for less than the
    challenge, or that ends within five minutes is left alone.
    """
    connection = _to_sign_in(connection, user=user)
    challenged = parse_scope((challenge.scope if challenge else None) or "")
    waiting = AuthorizationRequest.objects.filter(
        connection=connection,
        user=user,
        status=AuthorizationRequest.Status.PENDING,
        manual=False,
        browser_hash="",
        return_to="",
        expires_at__gt=now + _WORTH_WAITING_FOR,
    )
    for request in waiting:
        if challenged <= parse_scope(request.scope):
            _check_may_connect(connection, user=user)
            state, method = request.state_sealed.reveal(), request.registration_method
            return StartedAuthorization(request, state, _our_url(request), request.expires_at, method)
    return start_authorization(connection, user=user, now=now, challenge=challenge, fresh=fresh)


def bind_browser(request: AuthorizationRequest, *, user: User, now: datetime) -> BoundBrowser:
    """Tie a pending request to the browser that is about to be sent away, and say where it goes.

    Raises:
        StateError: Made for somebody else (LINK_USER_MISMATCH), finished, or late. S01, S02, E-06.
    """
    if request.user_id != user.pk:
        raise StateError("another account opened the link", code=Code.LINK_USER_MISMATCH)
    cookie = new_state()
    bound = AuthorizationRequest.objects.filter(
        pk=request.pk, status=AuthorizationRequest.Status.PENDING, consumed_at__isnull=True, expires_at__gt=now
    ).update(browser_hash=hash_of(cookie))
    if not bound:
        late = request.consumed_at is None and request.expires_at <= now
        raise StateError("the request is over", code=Code.STATE_EXPIRED if late else Code.STATE_USED)
    return BoundBrowser(
        redirect_url=_authorization_server_url(request, http=Egress()),
        cookie_name=browser_cookie_name(request),
        cookie_value=cookie,
        max_age_seconds=configuration().authorization_request_lifetime_seconds,
    )


def browser_cookie_name(request: AuthorizationRequest) -> str:
    """Name the cookie of one request, so that two tabs do not disturb each other."""
    prefix = "__Host-" if settings.PUBLIC_URL.startswith("https://") else ""
    return f"{prefix}mcp_flow_{request.pk.hex[:16]}"


def _to_sign_in(connection: Connection, *, user: User) -> Connection:
    """Return the connection at which the person signs in: this one, or the one that vouches for it."""
    server = connection.server
    if not server.is_unattended:
        return connection
    if not server.has_sign_in or server.identity_provider is None:
        raise InvalidRequestError("nobody signs in to this server: connect it instead")
    vouching = identity_connection(connection)
    if vouching is not None:
        return vouching
    if connection.is_shared:
        return shared_connection(server.identity_provider)
    return connection_for(user, server.identity_provider, actor=user)


def _check_may_connect(connection: Connection, *, user: User) -> None:
    if connection.server.auth_type != McpServer.AuthType.OAUTH:
        raise InvalidRequestError("this server needs no sign-in")
    if connection.is_shared and not user.has_perm("connections.manage_shared_connection"):
        raise InvalidRequestError("shared connections are managed by administrators")
    if not connection.is_shared and connection.user_id != user.pk:
        raise InvalidRequestError("the connection belongs to somebody else")


def _scope(connection: Connection, found: Discovered, *, additional: str, challenge: BearerChallenge | None) -> str:
    server = connection.server
    met = challenge.scope if challenge else None
    offered = found.metadata.scopes_supported
    first = initial_scopes(
        configured=server.scopes,
        challenge=met or found.challenge_scope,
        scopes_supported=found.scopes_supported,
        as_scopes_supported=offered,
    )
    # What a client has just met counts beside what is configured; read by the same rules as a first challenge. S-12.
    stepped = initial_scopes(configured="", challenge=met, scopes_supported=None, as_scopes_supported=offered)
    wanted = format_scope(
        parse_scope(first)
        | parse_scope(stepped)
        | parse_scope(additional)
        | parse_scope(profile_of(server.profile).scopes)
    )
    if connection.issuer != found.issuer or (server.scopes and challenge is None and not additional):
        return wanted
    return step_up_scopes(requested=connection.requested_scopes, granted=connection.granted_scopes, challenged=wanted)


def resource_for(server: McpServer, found: Discovered) -> str:
    """Return the RFC 8707 resource that every leg sends; empty: none. A-06, A-08."""
    mode = server.resource_mode
    if mode == McpServer.ResourceMode.CUSTOM:
        return server.resource
    published = found.resource or canonical_resource(server.url)
    if mode == McpServer.ResourceMode.SEND:
        return published
    wanted = mode == McpServer.ResourceMode.AUTO and profile_of(server.profile).send_resource
    return published if wanted and not found.is_legacy else ""


def _pending(
    connection: Connection, found: Discovered, client: Client, *, scope: str, user: User, now: datetime
) -> tuple[AuthorizationRequest, Secret]:
    state = new_state()
    request = AuthorizationRequest(
        connection=connection,
        user=user,
        state_hash=hash_of(state),
        issuer=found.issuer,
        iss_required=found.metadata.iss_parameter_supported,
        authorization_endpoint=found.metadata.authorization_endpoint,
        token_endpoint=found.metadata.token_endpoint,
        revocation_endpoint=found.metadata.revocation_endpoint or "",
        client_id=client.credentials.client_id,
        auth_method=client.credentials.auth_method,
        registration_method=client.method,
        registration=client.registration,
        redirect_uri=redirect_uri(),
        resource=resource_for(connection.server, found),
        scope=scope,
        initiated_at=now,
        expires_at=now + timedelta(seconds=configuration().authorization_request_lifetime_seconds),
    )
    request.state_sealed = state
    request.code_verifier_sealed = new_code_verifier()
    return request, state


def _save(request: AuthorizationRequest) -> bool:
    """Keep it, unless another sign-in has replaced and deleted its registration in this very moment."""
    connection = request.connection
    with transaction.atomic():
        lock_target(connection.server)
        pk = request.registration_id
        if pk is not None and not ClientRegistration.objects.filter(pk=pk).exists():
            return False
        request.save()
        record(
            AuditEvent.AUTHORIZATION_INITIATED,
            actor=request.user,
            server=connection.server.slug,
            connection=connection,
            details={
                "issuer": request.issuer,
                "requested_scope": request.scope,
                "registration_method": request.registration_method,
                "request": request.pk,
            },
        )
    return True


def _our_url(request: AuthorizationRequest) -> str:
    return f"{settings.PUBLIC_URL}/connect/requests/{request.pk}"


def _authorization_server_url(request: AuthorizationRequest, *, http: Egress) -> str:
    parameters = authorization_parameters(
        client_id=request.client_id,
        redirect_uri=request.redirect_uri,
        state=request.state_sealed.reveal(),
        code_challenge=s256_challenge(request.code_verifier_sealed.reveal()),
        scope=request.scope,
        resource=request.resource or None,
        extra={
            **profile_of(request.connection.server.profile).authorization_parameters,
            **({"dpop_jkt": request.dpop_jkt} if request.dpop_jkt else {}),  # RFC 9449 §10
        },
    )
    return http.authorization_url(request.authorization_endpoint, parameters=parameters)
