"""What stopped a flow, as each face says it: a page, a REST response, a GraphQL payload. The only three translations.

Nothing here shows `detail` or a word of the other side's answer: only codes and our own sentences leave the site.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import structlog
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

from audit.correlation import correlation_id
from audit.deferred import NOT_WRITABLE
from connections.refusals import RefusalError
from oauthflow.flows.start_authorization import StartedAuthorization
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import (
    AccountChangedError,
    AuthorizationDeniedError,
    AuthorizationRequiredError,
    BlockedUrlError,
    DiscoveryError,
    FlowError,
    InvalidRequestError,
    MalformedResponseError,
    RegistrationError,
    SecretUnreadableError,
    StateError,
    TokenEndpointError,
    TransportError,
)
from oauthflow.protocol.retry_after import ServerUnavailableError

RETRY_AFTER_SECONDS: Final = 30
"""What a caller is told to wait where the other side did not say how long."""

DATABASE_RETRY_SECONDS: Final = 5
"""The same where it is our database that is away or takes no writes: it is asked anew each time. F07, F09."""

NO_STORE: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
"""Headers of every REST answer: nothing of it belongs into a cache or a referrer."""

_STATUSES: Final[tuple[tuple[type[FlowError], int], ...]] = (
    (AuthorizationRequiredError, 409),
    (SecretUnreadableError, 409),
    (AuthorizationDeniedError, 409),
    (AccountChangedError, 409),
    (InvalidRequestError, 400),
    (StateError, 400),
    (BlockedUrlError, 422),
    (DiscoveryError, 422),
    (RegistrationError, 422),
    (TransportError, 503),
    (MalformedResponseError, 502),
    (TokenEndpointError, 502),
)
_STATUSES_BY_CODE: Final = {Code.FLOW_SESSION_MISMATCH: 403, Code.LINK_USER_MISMATCH: 403}

_log: Final = structlog.get_logger(__name__)

# REST framework's own refusals.
_REFUSALS: Final[Mapping[int, tuple[str, str]]] = {
    400: (Code.INVALID_REQUEST, "The request is not of the form that this address takes."),
    401: ("not_authenticated", "Sign in, or send an API token that is valid."),
    403: ("permission_denied", "You may not do this."),
    404: ("not_found", "There is nothing here, or nothing of yours."),
    405: ("method_not_allowed", "This address does not take that method."),
    406: ("not_acceptable", "This address has no answer of that kind."),
    415: ("unsupported_media_type", "Send JSON, with Content-Type: application/json."),
    429: ("too_many_requests", "Too many requests. Wait a while."),
}
_INSUFFICIENT_SCOPE: Final = "insufficient_scope"
_OWN_WORDS: Final = frozenset({400, 401, 403})
"""Statuses whose sentence the refusing class chose: it is ours and tells more."""


def status_of(error: FlowError) -> int:
    """Return the HTTP status that a flow error has on pages and in REST."""
    if error.code in _STATUSES_BY_CODE:
        return _STATUSES_BY_CODE[error.code]
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 502)


def page_context(error: FlowError) -> dict[str, Any]:
    """Return what a template needs to tell a person what happened; `status` is the page's own."""
    return {**_said(error), "status": status_of(error)}


def rest_response(error: FlowError, *, started: StartedAuthorization | None = None, status: int = 0) -> Response:
    """Translate a flow error for REST.

    Args:
        error: What stopped the flow.
        started: The authorization by which the caller can get on.
        status: A status of the operation's own in place of the usual one.
    """
    code = str(error.code)
    said = _said(error)
    body = {"error": code, **{name: value for name, value in said.items() if name != "code"}}
    chosen = status or status_of(error)
    headers = dict(NO_STORE)
    if chosen == 503:
        headers["Retry-After"] = str(_retry_after(error))
    return Response({**body, **_way_on(started)}, status=chosen, headers=headers)


def graphql_payload(error: FlowError, *, started: StartedAuthorization | None = None) -> dict[str, object]:
    """Translate a flow error for a GraphQL payload: plain values under snake-case names, to be picked by the type."""
    return {
        **_said(error),
        "success": False,
        "error_message": error.message,
        "requires_oauth": isinstance(error, AuthorizationRequiredError),
        "reauthorization_reason": getattr(error, "reason", "")
        or (str(error.code) if error.requires_reauthorization else ""),
        **_way_on(started),
    }


def rest_exception_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """Answer every refusal of every REST view in one form; anything unforeseen stays a server error.

    Spec: public contract, section 4; RFC 9110 §15.5 for the statuses, RFC 6750 §3.1 for `insufficient_scope`.
    """
    error = foreseen(error)
    if isinstance(error, FlowError):
        return rest_response(error)
    if isinstance(error, RefusalError):
        return error.response()
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    elif isinstance(error, ValidationError):
        error = exceptions.ValidationError(_fields_of(error))
    return _refusal(error) if isinstance(error, exceptions.APIException) and error.status_code in _REFUSALS else None


def foreseen(error: Exception) -> Exception:
    """Return what to say instead of an error of the database that is over as soon as the database is back."""
    if not isinstance(error, NOT_WRITABLE):
        return error
    _log.warning("database.away", exception=type(error).__name__)
    return ServerUnavailableError("our database is away, or takes no writes", retry_after=DATABASE_RETRY_SECONDS)


def _said(error: FlowError) -> dict[str, object]:
    return {
        "code": str(error.code),
        "message": error.message,
        "retryable": error.retryable,
        "requires_reauthorization": error.requires_reauthorization,
        "correlation_id": correlation_id(),
    }


def _way_on(started: StartedAuthorization | None) -> dict[str, object]:
    if started is None:
        return {}
    return {
        "authorization_url": started.authorization_url,
        "state": started.state.reveal(),
        "expires_at": started.expires_at,
    }


def _retry_after(error: FlowError) -> int:
    asked = getattr(error, "retry_after", None)
    return max(1, int(asked)) if asked is not None else RETRY_AFTER_SECONDS


def _refusal(error: exceptions.APIException) -> Response:
    code, message = _REFUSALS[error.status_code]
    if error.get_codes() == _INSUFFICIENT_SCOPE:
        code = _INSUFFICIENT_SCOPE
    if error.status_code in _OWN_WORDS and isinstance(error.detail, str):
        message = error.detail
    body: dict[str, object] = {
        "error": str(code),
        "message": message,
        "retryable": error.status_code == 429,
        "requires_reauthorization": False,
        "correlation_id": correlation_id(),
    }
    if isinstance(error, exceptions.ValidationError):
        body["fields"] = error.detail if isinstance(error.detail, dict) else {"non_field_errors": error.detail}
    return Response(body, status=error.status_code, headers={**NO_STORE, **_headers_of(error)})


def _headers_of(error: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = str(challenge)
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait))
    return headers


def _fields_of(error: ValidationError) -> dict[str, list[str]]:
    return error.message_dict if hasattr(error, "error_dict") else {"non_field_errors": error.messages}
