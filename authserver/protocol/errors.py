"""What we answer as an authorization server: one class per wire code, `OAuthError` above all.

OAuthError
├── InvalidRequestError              invalid_request
│   ├── InvalidRedirectUriError      invalid_request, on a page and never in a redirect
│   └── UnknownClientError           invalid_client at authorize: on a page and never in a redirect
├── InvalidClientError               invalid_client                    401
├── InvalidGrantError                invalid_grant
├── UnauthorizedClientError          unauthorized_client
├── UnsupportedGrantTypeError        unsupported_grant_type
├── UnsupportedResponseTypeError     unsupported_response_type
├── InvalidScopeError                invalid_scope
├── InvalidTargetError               invalid_target                    RFC 8707 §2
├── AccessDeniedError                access_denied
│   └── RegistrationClosedError      access_denied                     403
├── InteractionRequiredError         interaction_required              OpenID Connect Core 1.0 §3.1.2.6
├── InvalidClientMetadataError       invalid_client_metadata           RFC 7591 §3.2.2
│   └── UnusableRedirectUriError     invalid_redirect_uri              RFC 7591 §3.2.2
├── InvalidTokenError                invalid_token                     401, RFC 6750 §3.1
├── TooManyRequestsError             temporarily_unavailable           429
├── TemporarilyUnavailableError      temporarily_unavailable           503
└── ServerError                      server_error                      500

Not to be confused with `oauthflow.protocol.errors.FlowError`: what stops us where we are the client.
"""

from __future__ import annotations

from typing import ClassVar


class OAuthError(Exception):
    """A request that we refuse.

    Attributes:
        error: The code on the wire.
        status: HTTP status where the answer is no redirect.
        redirectable: Whether it may travel to a client's redirect URI, once that is known to be the client's.
        description: One sentence of ours, safe to send: no quote, no backslash, ASCII only, nothing of the request.
        detail: For logs only: what was expected, what came. Never a secret.
        retry_after_seconds: When asking again makes sense; None where that changes nothing.

    Spec: RFC 6749 §4.1.2.1, §5.2.
    """

    error: ClassVar[str] = "server_error"
    status: ClassVar[int] = 400
    redirectable: ClassVar[bool] = False

    def __init__(self, description: str = "", *, detail: str = "", retry_after_seconds: int | None = None) -> None:
        self.description = description
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        super().__init__(": ".join(part for part in (self.error, description, detail) if part))


class InvalidRequestError(OAuthError):
    """A parameter is missing, repeated, or not what it has to be."""

    error = "invalid_request"
    redirectable = True


class InvalidRedirectUriError(InvalidRequestError):
    """The redirect URI is not one of the client's, so nobody may be sent there."""

    redirectable = False


class UnknownClientError(InvalidRequestError):
    """Nobody knows this client at the authorization endpoint."""

    error = "invalid_client"
    redirectable = False


class InvalidClientError(OAuthError):
    """Unknown client, or one that did not prove who it is, away from the authorization endpoint."""

    error = "invalid_client"
    status = 401


class InvalidGrantError(OAuthError):
    """A code or a refresh token that is not good, or not good here."""

    error = "invalid_grant"


class UnauthorizedClientError(OAuthError):
    """This client may not use this grant."""

    error = "unauthorized_client"
    redirectable = True


class UnsupportedGrantTypeError(OAuthError):
    """A grant that we do not have."""

    error = "unsupported_grant_type"


class UnsupportedResponseTypeError(OAuthError):
    """Anything but `code`."""

    error = "unsupported_response_type"
    redirectable = True


class InvalidScopeError(OAuthError):
    """A scope that the resource does not have, or that was not granted."""

    error = "invalid_scope"
    redirectable = True


class InvalidTargetError(OAuthError):
    """A resource that is not ours, or not the one that was granted. RFC 8707 §2."""

    error = "invalid_target"
    redirectable = True


class AccessDeniedError(OAuthError):
    """The person said no."""

    error = "access_denied"
    redirectable = True


class RegistrationClosedError(AccessDeniedError):
    """Programs do not register themselves here."""

    status = 403
    redirectable = False


class InteractionRequiredError(OAuthError):
    """The client wants no page, and there has to be one. OpenID Connect Core 1.0 §3.1.2.6."""

    error = "interaction_required"
    redirectable = True


class InvalidClientMetadataError(OAuthError):
    """A registration that we do not take. RFC 7591 §3.2.2."""

    error = "invalid_client_metadata"


class UnusableRedirectUriError(InvalidClientMetadataError):
    """A registration with a redirect URI that we do not take. RFC 7591 §3.2.2."""

    error = "invalid_redirect_uri"


class InvalidTokenError(OAuthError):
    """A bearer token that is not good. RFC 6750 §3.1."""

    error = "invalid_token"
    status = 401


class TooManyRequestsError(OAuthError):
    """More than anybody needs. RFC 6585 §4."""

    error = "temporarily_unavailable"
    status = 429


class TemporarilyUnavailableError(OAuthError):
    """Not now."""

    error = "temporarily_unavailable"
    status = 503
    redirectable = True


class ServerError(OAuthError):
    """A mistake of ours."""

    error = "server_error"
    status = 500
    redirectable = True
