"""The authorization request's parameters, and the response that comes back. RFC 6749 §4.1.1, §4.1.2, RFC 9207."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .codes import Code
from .errors import AuthorizationDeniedError, InvalidRequestError, IssuerMismatchError, MalformedResponseError
from .pkce import CODE_CHALLENGE_METHOD
from .secret import Secret

# What no provider profile may set: it is either ours to decide, or would move the request out of our sight.
RESERVED_PARAMETERS = frozenset(
    {
        "response_type",
        "response_mode",
        "client_id",
        "client_secret",
        "redirect_uri",
        "state",
        "code_challenge",
        "code_challenge_method",
        "scope",
        "resource",
        "request",
        "request_uri",
        "registration",
    }
)

_DENIALS: Mapping[str, Code] = {
    "access_denied": Code.ACCESS_DENIED,
    "invalid_request": Code.INVALID_REQUEST,
    "unauthorized_client": Code.UNAUTHORIZED_CLIENT,
    "unsupported_response_type": Code.UNSUPPORTED_RESPONSE_TYPE,
    "invalid_scope": Code.INVALID_SCOPE,
    "server_error": Code.SERVER_ERROR,
    "temporarily_unavailable": Code.TEMPORARILY_UNAVAILABLE,
    # RFC 8707 §2: our resource parameter was not accepted.
    "invalid_target": Code.INVALID_REQUEST,
    # OpenID Connect Core §3.1.2.6: a person has to do something at the provider.
    "interaction_required": Code.ACCESS_DENIED,
    "login_required": Code.ACCESS_DENIED,
    "account_selection_required": Code.ACCESS_DENIED,
    "consent_required": Code.ACCESS_DENIED,
}

# RFC 6749 appendix A.11, VSCHAR, with a limit of ours.
_CODE = re.compile(r"[\x20-\x7e]{1,4096}")


@dataclass(frozen=True, slots=True)
class ValidatedCode:
    """An authorization code whose response passed the checks; made by `read_authorization_response` only."""

    code: Secret
    issuer: str


def authorization_parameters(
    *,
    client_id: str,
    redirect_uri: str,
    state: Secret,
    code_challenge: str,
    scope: str,
    resource: str | None,
    extra: Mapping[str, str],
) -> dict[str, str]:
    """Return the query parameters of an authorization request.

    Args:
        client_id: Ours at this authorization server.
        redirect_uri: Exactly as registered.
        state: Fresh for this request.
        code_challenge: S256 challenge of this request's verifier.
        scope: Space-separated; left out when empty.
        resource: Exactly the string of the protected-resource metadata; None sends none.
        extra: What a provider profile adds; its `prompt` goes before ours.

    Raises:
        InvalidRequestError: `extra` sets a parameter that is ours to decide.

    Spec: RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 8707 §2, OpenID Connect Core §11. A-02, A-03, A-06, A-08, A-09, S-03.
    """
    reserved = sorted(RESERVED_PARAMETERS & extra.keys())
    if reserved:
        raise InvalidRequestError(f"extra parameters may not set {', '.join(reserved)}")
    parameters = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "state": state.reveal(),
        "code_challenge": code_challenge,
        "code_challenge_method": CODE_CHALLENGE_METHOD,
    }
    if scope:
        parameters["scope"] = scope
    if resource:
        parameters["resource"] = resource
    if "offline_access" in scope.split(" "):
        # OpenID providers ignore that scope, and give no refresh token, where the person is not asked.
        parameters["prompt"] = "consent"
    return {**parameters, **extra}


def read_authorization_response(params: Mapping[str, str], *, issuer: str, iss_required: bool) -> ValidatedCode:
    """Check an authorization response whose `state` was claimed, and return its code.

    Args:
        params: The query parameters, each once.
        issuer: Recorded with the request, from the validated metadata.
        iss_required: Whether that metadata promised the `iss` parameter.

    Raises:
        IssuerMismatchError: `iss` is missing though promised, or is not the very same string.
        AuthorizationDeniedError: The response carried `error`; the code is of our fixed list.
        MalformedResponseError: Neither `error` nor a usable `code`.

    Spec: RFC 9207 §2.4 before RFC 6749 §4.1.2.1 and §4.1.2. A-13, A-14, A-15.
    """
    _require_issuer(params.get("iss"), issuer=issuer, required=iss_required)
    if "error" in params:
        raise _denial(params["error"])
    code = params.get("code", "")
    if not _CODE.fullmatch(code):
        raise MalformedResponseError("authorization response without error and without a usable code")
    return ValidatedCode(code=Secret(code), issuer=issuer)


def _require_issuer(received: str | None, *, issuer: str, required: bool) -> None:
    if received is None:
        if required:
            raise IssuerMismatchError(f"authorization response without iss, which {issuer} promises")
        return
    # RFC 9207 §2.4 by simple string comparison: two spellings of one URL are two issuers.
    if received != issuer:
        raise IssuerMismatchError(f"authorization response of another issuer than {issuer}")


def _denial(error: str) -> AuthorizationDeniedError:
    # error_description and error_uri are anybody's text: they go nowhere, not even into a log.
    code = _DENIALS.get(error)
    if code is None:
        return AuthorizationDeniedError("authorization response with an unlisted error", code=Code.SERVER_ERROR)
    return AuthorizationDeniedError(f"authorization response with error {error}", code=code)
