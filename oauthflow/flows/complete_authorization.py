"""Finish an authorization: what came back is checked before anything leaves, and a code is used once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from django.contrib.auth.models import AnonymousUser
from django.db import transaction
from django.utils.crypto import constant_time_compare

from audit.events import AuditEvent
from audit.record import record
from connections.database_time import by_database
from connections.models import FlowTrace, McpServer
from connections.profiles import profile_of
from connections.services import lock_for_grant, store_grant
from oauthflow.models import AuthorizationRequest, hash_of
from oauthflow.protocol.authorization import ValidatedCode, read_authorization_response
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import (
    AccountChangedError,
    AuthorizationDeniedError,
    ClientRefusedError,
    FlowError,
    InvalidRequestError,
    StateError,
    TransportError,
)
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.token_endpoint import (
    BEARER,
    DPOP,
    TokenResponse,
    authorization_code_request,
    read_token_response,
)

from .attempt import traced
from .bind_tokens import binding, bound
from .held_grant import give_back, hold, is_of_another_account, terms_of
from .refresh.keep import persistently
from .register_client import credentials_of, supersede
from .start_authorization import browser_cookie_name

if TYPE_CHECKING:
    from django.contrib.auth.models import User

_STORE_SECONDS: Final = 5.0


def complete_authorization(
    *,
    params: Mapping[str, str],
    user: User | AnonymousUser,
    cookies: Mapping[str, str] | None,
    now: datetime,
) -> AuthorizationRequest:
    """Check the answer of an authorization server, redeem its code, and store the tokens.

    Args:
        params: `state` with `code`, or with `error`; `iss` where the server sends it.
        user: Who brings the answer; must be who started.
        cookies: The browser's cookies; None where a program or a person hands the answer in by hand.
        now: Aware UTC.

    Returns:
        The finished request; its connection is active.

    Raises:
        StateError: Unknown, used, late, or from another browser or user: nothing was sent to anybody. Also where the
            connection was deleted meanwhile: what was granted is revoked.
        AccountChangedError: Another account of the service was used than before: nothing is replaced, the request
            waits for a decision.
        FlowError: The server refused, or its answer was not acceptable.
        DatabaseError: What was granted could not be stored; the person has to begin anew.

    Each error carries the request it ended, if there is one, as `request`.

    Spec: RFC 6749 §4.1.2 to §4.1.4, RFC 9207 §2.4. A-09 to A-15.
    """
    pending: AuthorizationRequest | None = None
    try:
        pending = AuthorizationRequest.objects.with_state(params.get("state", ""))
        _check_who_brings_it(pending, user=user, cookies=cookies, now=now)
        AuthorizationRequest.objects.claim(pending, now=now)
    except StateError as error:
        _record_rejection(pending, error=error, user=user)
        raise _with_request(error, pending) from None
    try:
        _check_still_open(pending)
        tokens = _redeem(pending, params=params, now=by_database(now))
    except FlowError as error:
        _fail(pending, error=error, now=now)
        raise _with_request(error, pending) from None
    try:
        # The code is used up: whatever becomes of one try to store what it brought, there is no second code.
        persistently(lambda: _finish(pending, tokens, now=now), seconds=_STORE_SECONDS)
    except TransportError as error:
        raise error.__cause__ or error from None  # our database is away, and no service
    return pending


def require_whole_address(pending: AuthorizationRequest, params: Mapping[str, str]) -> None:
    """Refuse a code alone where the service promises to name itself beside it: so the sign-in stays open for the rest.

    Raises:
        InvalidRequestError: Only the code was pasted; without `iss` it would be taken for another's. RFC 9207 §2.4.
    """
    if pending.iss_required and params.keys() == {"code"}:
        raise InvalidRequestError("this service names itself in the address: paste all of it")


def parse_pasted(text: str) -> dict[str, str]:
    """Read what a person pasted: the whole redirect address, its query, or `code` alone.

    Raises:
        InvalidRequestError: Nothing usable is in it, or a parameter is repeated. S06.
    """
    pasted = text.strip()
    query = urlsplit(pasted).query if "://" in pasted else pasted.lstrip("?")
    if "=" not in query:
        if not query or any(character.isspace() for character in query):
            raise InvalidRequestError("neither a redirect address nor a code was pasted")
        return {"code": query}
    pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=20)
    params = dict(pairs)
    if len(params) != len(pairs):
        raise InvalidRequestError("a parameter is repeated")
    return params


def _check_who_brings_it(
    pending: AuthorizationRequest,
    *,
    user: User | AnonymousUser,
    cookies: Mapping[str, str] | None,
    now: datetime,
) -> None:
    """The person must be who started; a browser must be the one that was sent away, else the request is burned."""
    same_user = user.is_authenticated and user.pk == pending.user_id
    if pending.manual:
        if same_user:
            return
    elif cookies is not None:
        cookie = cookies.get(browser_cookie_name(pending), "")
        bound = bool(cookie and pending.browser_hash) and constant_time_compare(hash_of(cookie), pending.browser_hash)
        if same_user and bound:
            return
    if pending.consumed_at is None:
        AuthorizationRequest.objects.claim(pending, now=now)
        _close(pending, status=AuthorizationRequest.Status.FAILED, code=Code.FLOW_SESSION_MISMATCH, now=now)
    raise StateError("another browser or another person", code=Code.FLOW_SESSION_MISMATCH)


def _check_still_open(pending: AuthorizationRequest) -> None:
    """Access to the server may have been withdrawn while the person was away."""
    if not McpServer.objects.usable_by(pending.user).filter(pk=pending.connection.server_id).exists():
        raise AuthorizationDeniedError("the server is not open to this person any more")


def _redeem(pending: AuthorizationRequest, *, params: Mapping[str, str], now: datetime) -> TokenResponse:
    server = pending.connection.server
    with traced(server, kind=FlowTrace.Kind.CALLBACK, connection=pending.connection, user=pending.user) as http:
        code: ValidatedCode = read_authorization_response(
            params, issuer=pending.issuer, iss_required=pending.iss_required
        )
        request = authorization_code_request(
            token_endpoint=pending.token_endpoint,
            code=code,
            redirect_uri=pending.redirect_uri,
            code_verifier=pending.code_verifier_sealed.reveal(),
            resource=pending.resource or None,
            client=credentials_of(
                server,
                client_id=pending.client_id,
                auth_method=pending.auth_method,
                registration=pending.registration,
            ),
            issuer=pending.issuer,
            now=now,
        )
        token_type = DPOP if pending.dpop_jkt else BEARER
        read = partial(
            read_token_response,
            requested_scope=pending.scope,
            received_at=now,
            milliseconds=profile_of(server.profile).milliseconds,
            issuer=pending.issuer,
            client_id=pending.client_id,
            dpop=binding(server, token_type=token_type),
        )
        return http.redeem(bound(request, pending.connection, token_type=token_type), read=read, step="token")


def _finish(pending: AuthorizationRequest, tokens: TokenResponse, *, now: datetime) -> None:
    with transaction.atomic():
        is_there = lock_for_grant(pending.connection)
        mine = AuthorizationRequest.objects.filter(pk=pending.pk, user__is_active=True)
        status = mine.values_list("status", flat=True).first()
        if status == AuthorizationRequest.Status.COMPLETED:
            return  # by the try before this one: what was lost is the database's word that it was stored
        # Deleted or deactivated meanwhile, or ended because an administrator pointed the server elsewhere.
        is_still_wanted = is_there and status == AuthorizationRequest.Status.PENDING
        if is_still_wanted:
            _keep(pending, tokens, now=now)
        else:
            give_back(pending, tokens, reason="deleted or pointed elsewhere meanwhile", now=now)
    if not is_still_wanted:
        raise StateError("the connection was deleted or pointed elsewhere meanwhile")
    if pending.error_code == Code.ACCOUNT_CHANGED:
        raise _with_request(AccountChangedError("another account of the service than before"), pending)


def _keep(pending: AuthorizationRequest, tokens: TokenResponse, *, now: datetime) -> None:
    """Store what was granted, or put it aside where it is another account's; the connection's row is locked."""
    connection = pending.connection
    connection.refresh_from_db()
    if is_of_another_account(connection, tokens, issuer=pending.issuer):
        hold(pending, tokens, now=now)
        return
    _close(pending, status=AuthorizationRequest.Status.COMPLETED, code="", now=now)
    store_grant(connection, tokens, terms=terms_of(pending), actor=pending.user, now=by_database(now))


def _fail(pending: AuthorizationRequest, *, error: FlowError, now: datetime) -> None:
    """Record the failure; a connection that worked before goes on working. S07."""
    if isinstance(error, ClientRefusedError) and pending.registration is not None:
        supersede(pending.registration)
    with transaction.atomic():
        _close(pending, status=AuthorizationRequest.Status.FAILED, code=error.code, now=now)
        record(
            AuditEvent.AUTHORIZATION_FAILED,
            actor=pending.user,
            server=pending.connection.server.slug,
            connection=pending.connection,
            reason=error.code,
            details={"issuer": pending.issuer, "retryable": error.retryable, "request": pending.pk},
        )


def _close(pending: AuthorizationRequest, *, status: str, code: str, now: datetime) -> None:
    pending.status, pending.error_code, pending.completed_at = status, code, now
    pending.state_sealed = pending.code_verifier_sealed = Secret("")
    # Not `save()`: whoever deleted the connection meanwhile has deleted this row as well.
    AuthorizationRequest.objects.filter(pk=pending.pk).update(
        status=status, error_code=code, completed_at=now, state_sealed="", code_verifier_sealed=""
    )


def _record_rejection(pending: AuthorizationRequest | None, *, error: StateError, user: User | AnonymousUser) -> None:
    record(
        AuditEvent.CALLBACK_REJECTED,
        actor=user if user.is_authenticated else None,
        server=pending.connection.server.slug if pending else "",
        connection=pending.connection if pending else None,
        reason=error.code,
    )


def _with_request(error: FlowError, pending: AuthorizationRequest | None) -> FlowError:
    error.request = pending
    return error
