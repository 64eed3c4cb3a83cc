"""Requests to the token endpoint, and what its responses grant. RFC 6749 §4.1.3, §5, §6."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from .authorization import ValidatedCode
from .client_auth import ClientCredentials, authenticate
from .codes import Code
from .errors import (
    ClientRefusedError,
    FlowError,
    GrantRefusedError,
    IssuerMismatchError,
    MalformedResponseError,
    TokenEndpointError,
)
from .id_token import read_subject
from .json_documents import read_json_object
from .messages import Request, Response
from .retry_after import ServerUnavailableError, require_available
from .secret import Secret

BEARER = "Bearer"
DPOP = "DPoP"
Binding: TypeAlias = Literal["none", "taken", "needed"]
LONGEST_LIFETIME_SECONDS = 31_536_000
_REFRESH_LIFETIMES = ("refresh_token_expires_in", "refresh_expires_in")
# Some frameworks answer every POST with 201, and the response is complete all the same.
_GRANTING_STATUSES = frozenset({200, 201})
# RFC 6749 §5.2: 401 when we tried to authenticate in the header, else 400.
REFUSING_STATUSES = frozenset({400, 401})

_REFUSALS: Mapping[str, Code] = {
    "invalid_request": Code.INVALID_REQUEST,
    "unsupported_grant_type": Code.UNSUPPORTED_GRANT_TYPE,
    "invalid_scope": Code.INVALID_SCOPE,
    "access_denied": Code.ACCESS_DENIED,
    # RFC 8707 §2: our resource parameter was not accepted.
    "invalid_target": Code.INVALID_REQUEST,
    # RFC 7009 §2.2.1.
    "unsupported_token_type": Code.INVALID_REQUEST,
    # RFC 9449 §5.
    "invalid_dpop_proof": Code.INVALID_REQUEST,
    # Not in RFC 6749 §5.2 but sent: a person has to do something at the provider.
    "interaction_required": Code.ACCESS_DENIED,
    "login_required": Code.ACCESS_DENIED,
    "consent_required": Code.ACCESS_DENIED,
}
_CLIENT_REFUSALS = frozenset({Code.INVALID_CLIENT, Code.UNAUTHORIZED_CLIENT})
_UNAVAILABLE = frozenset({Code.SERVER_ERROR, Code.TEMPORARILY_UNAVAILABLE})

# Visible ASCII without what could end a header value's part. RFC 6750 §2.1 would allow fewer characters, but tokens of
# the form user:grant:secret are common among MCP servers; RFC 6749 appendix A.12 allows them.
_ACCESS_TOKEN = re.compile(r"[!#-+\--:<-\[\]-~]{1,16384}")
# RFC 6749 appendix A.17, VSCHAR; it only ever travels in a form.
_REFRESH_TOKEN = re.compile(r"[\x20-\x7e]{1,16384}")
_SCOPE = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{0,8192}")
_DIGITS = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """What a token endpoint granted. An `id_token` is never kept, only whom it names.

    Attributes:
        access_token: Opaque; fit for an Authorization header.
        token_type: `Bearer`, or `DPoP` where it works only with proofs of the key it was asked for with.
        expires_at: Aware UTC, at most 31,536,000 s ahead; None where the server gave no lifetime that makes sense.
        refresh_token: None where none came; the one in hand then stays good.
        scope: Space-separated; what was requested, where the response has no `scope`.
        subject: The `sub` of the account at the issuer; empty where the response does not say it in a form we accept.
        refresh_ends_at: Aware UTC; when the refresh token ends, where the server says so. No specification has it, many
            servers do, by one of two names.
    """

    access_token: Secret
    token_type: str
    expires_at: datetime | None
    refresh_token: Secret | None
    scope: str
    subject: str = ""
    refresh_ends_at: datetime | None = None


def authorization_code_request(
    *,
    token_endpoint: str,
    code: ValidatedCode,
    redirect_uri: str,
    code_verifier: Secret,
    resource: str | None,
    client: ClientCredentials,
    issuer: str,
    now: datetime,
) -> Request:
    """Make the request that exchanges a code for tokens.

    Args:
        token_endpoint: Pinned when the authorization request was made.
        code: From a checked authorization response.
        redirect_uri: The one of the authorization request.
        code_verifier: The one whose challenge was sent.
        resource: The one of the authorization request; None sends none.
        client: Us, as this authorization server knows us.
        issuer: Of the token endpoint; audience of an assertion.
        now: Aware UTC.

    Raises:
        IssuerMismatchError: The code is from another issuer; it must not reach this endpoint.

    Spec: RFC 6749 §4.1.3, RFC 7636 §4.5, RFC 8707 §2.2, RFC 9207 §2.4. A-06, A-13, T-12.
    """
    if code.issuer != issuer:
        raise IssuerMismatchError("code of another issuer than the token endpoint's")
    form = {
        "grant_type": "authorization_code",
        "code": code.code.reveal(),
        "redirect_uri": redirect_uri,
        "code_verifier": code_verifier.reveal(),
    }
    return token_request(form, token_endpoint=token_endpoint, resource=resource, client=client, issuer=issuer, now=now)


def refresh_request(
    *,
    token_endpoint: str,
    refresh_token: Secret,
    resource: str | None,
    client: ClientCredentials,
    issuer: str,
    now: datetime,
) -> Request:
    """Make the request that redeems a refresh token; without `scope`, so for what was granted.

    Args:
        token_endpoint: Of the issuer that gave the refresh token.
        refresh_token: Sent in the form.
        resource: As in the authorization request; None sends none.
        client: Us, as this authorization server knows us.
        issuer: Audience of an assertion.
        now: Aware UTC.

    Spec: RFC 6749 §6, RFC 8707 §2.2. A-06, X-13.
    """
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()}
    return token_request(form, token_endpoint=token_endpoint, resource=resource, client=client, issuer=issuer, now=now)


def token_request(
    grant: dict[str, str],
    *,
    token_endpoint: str,
    resource: str | None,
    client: ClientCredentials,
    issuer: str,
    now: datetime,
) -> Request:
    """Make a request to a token endpoint for any grant, with the proof of who we are. RFC 6749 §3.2, RFC 8707 §2.2."""
    form = {**grant, "resource": resource} if resource else grant
    headers, authenticated = authenticate(form, client=client, audience=issuer, now=now)
    return Request("POST", token_endpoint, headers={"Accept": "application/json", **headers}, form=authenticated)


def read_token_response(
    response: Response,
    *,
    requested_scope: str,
    received_at: datetime,
    milliseconds: bool = False,
    issuer: str = "",
    client_id: str = "",
    dpop: Binding = "none",
) -> TokenResponse:
    """Check a token endpoint's response and return what it granted.

    Args:
        response: Complete response to a code or refresh request.
        requested_scope: Space-separated; taken as granted where the response has no `scope`.
        received_at: Aware UTC; `expires_in` counts from here.
        milliseconds: Whether this provider's `expires_in` is in milliseconds.
        issuer: From whom an `id_token` has to be; empty: it is not looked at.
        client_id: For whom it has to be.
        dpop: `none`: no proof was sent, only a bearer token is accepted. `taken`: one was sent; a server that ignores
            it gives a bearer token. `needed`: only a bound token is accepted. RFC 9449 §5.

    Raises:
        GrantRefusedError: Status 400 or 401 with `invalid_grant`.
        ClientRefusedError: The same with `invalid_client` or `unauthorized_client`.
        TokenEndpointError: The same with another error; `.code` is of our fixed list.
        ServerUnavailableError: Status 408, 429 or 5xx; `.retry_after` in seconds.
        MalformedResponseError: Anything else that does not grant a bearer token. Says nothing about the grant.

    Spec: RFC 6749 §5.1, §5.2; §3.3 for the scope default; RFC 6750 §4. T-11, X-12, X-13.
    """
    require_available(response, now=received_at)
    if response.status in REFUSING_STATUSES:
        raise read_error_response(response)
    if response.status not in _GRANTING_STATUSES:
        raise MalformedResponseError(f"token endpoint answered with status {response.status}")
    document = read_json_object(response)
    if document.get("error"):
        raise MalformedResponseError(f"token endpoint answered with an error under status {response.status}")
    return TokenResponse(
        access_token=_access_token(document.get("access_token")),
        token_type=_token_type(document.get("token_type"), dpop=dpop),
        expires_at=_expires_at(document.get("expires_in"), received_at=received_at, milliseconds=milliseconds),
        refresh_token=_refresh_token(document.get("refresh_token")),
        scope=_scope(document.get("scope"), requested_scope=requested_scope),
        subject=read_subject(document.get("id_token"), issuer=issuer, client_id=client_id) if issuer else "",
        refresh_ends_at=_refresh_ends_at(document, received_at=received_at, milliseconds=milliseconds),
    )


def read_error_response(response: Response) -> FlowError:
    """Return, to be raised, what an RFC 6749 §5.2 error response says.

    Args:
        response: Status 400 or 401.

    Raises:
        MalformedResponseError: The body is not an error document.

    Spec: RFC 6749 §5.2, RFC 7009 §2.2.1, RFC 8707 §2. X-12.
    """
    error = read_json_object(response).get("error")
    if not isinstance(error, str) or not error:
        raise MalformedResponseError(f"status {response.status} without an error code")
    if error == Code.INVALID_GRANT:
        return GrantRefusedError("endpoint answered invalid_grant")
    if error in _CLIENT_REFUSALS:
        return ClientRefusedError(f"endpoint answered {error}", code=Code(error))
    if error in _UNAVAILABLE or error == "use_dpop_nonce":  # a nonce that went stale twice within one request
        return ServerUnavailableError(f"endpoint answered {error}")
    if error in _REFUSALS:
        return TokenEndpointError(f"endpoint answered {error}", code=_REFUSALS[error])
    return TokenEndpointError("endpoint answered an unlisted error", code=Code.SERVER_ERROR)


def _token_type(value: Any, *, dpop: Binding) -> str:
    # REQUIRED by RFC 6749 §5.1 and case-insensitive; §7.1 forbids using a token of a type that one does not understand.
    understood = {"none": (BEARER,), "taken": (DPOP, BEARER), "needed": (DPOP,)}[dpop]
    for kind in understood:
        if isinstance(value, str) and value.lower() == kind.lower():
            return kind
    raise MalformedResponseError(f"token response without token_type {' or '.join(understood)}")


def _access_token(value: Any) -> Secret:
    if not isinstance(value, str) or not _ACCESS_TOKEN.fullmatch(value):
        raise MalformedResponseError("token response without an access_token that fits a header")
    return Secret(value)


def _refresh_token(value: Any) -> Secret | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _REFRESH_TOKEN.fullmatch(value):
        raise MalformedResponseError("token response with an unusable refresh_token")
    return Secret(value)


def _scope(value: Any, *, requested_scope: str) -> str:
    if value is None:
        return requested_scope
    if not isinstance(value, str) or not _SCOPE.fullmatch(value):
        raise MalformedResponseError("token response with an unusable scope")
    return " ".join(value.split())


def _expires_at(value: Any, *, received_at: datetime, milliseconds: bool) -> datetime | None:
    lifetime = _whole_number(value)
    if lifetime is None:
        return None
    seconds = lifetime // 1000 if milliseconds else lifetime
    return received_at + timedelta(seconds=max(0, min(seconds, LONGEST_LIFETIME_SECONDS)))


def _refresh_ends_at(document: dict[str, Any], *, received_at: datetime, milliseconds: bool) -> datetime | None:
    """0 means never (Keycloak's offline tokens), and so does more than ten years."""
    said = [_whole_number(document[name]) for name in _REFRESH_LIFETIMES if name in document]
    lifetime = next((number for number in said if number is not None), 0)
    seconds = lifetime // 1000 if milliseconds else lifetime
    return received_at + timedelta(seconds=seconds) if 0 < seconds <= 10 * LONGEST_LIFETIME_SECONDS else None


def _whole_number(value: Any) -> int | None:
    """Return an integer, also where the server sent one as text or as 3600.0; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return None
