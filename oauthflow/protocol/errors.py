"""What can stop us as an OAuth client: one family, `FlowError`.

FlowError                            base of all: something stopped a flow
├── BlockedUrlError                  our own guard refused the address
├── TransportError                   no response: name, TLS, time, size
│   ├── AnswerLostError              the connection ended after the request and before a response
│   └── ResponseTimeoutError         the other side took too long
├── MalformedResponseError           a response that the RFC does not allow
├── DiscoveryError                   no usable metadata                       RFC 9728 §3, RFC 8414 §3
│   ├── ResourceMismatchError        a document for another resource          RFC 9728 §3.3
│   ├── IssuerMismatchError          a document or a response of another issuer   RFC 8414 §3.3, RFC 9207 §2.4
│   ├── IssuerChangedError           the server now names another authorization server
│   ├── IssNotSupportedError         `iss` is not promised, and the settings insist on it   RFC 9207 §3
│   └── PkceNotSupportedError        S256 is not advertised                   RFC 7636 §4.2, RFC 8414 §2
├── RegistrationError                refused, with the server's code          RFC 7591 §3.2.2
│   └── NoClientError                not registered, and no way to be
│       └── NotConfiguredError       what a grant without a person needs is not there: a secret, a key, an assertion
├── StateError                       unknown, used or late state; another browser or user
├── AuthorizationDeniedError         the redirect carried `error`             RFC 6749 §4.1.2.1
├── TokenEndpointError               an error body                            RFC 6749 §5.2
│   ├── ClientRefusedError           invalid_client, unauthorized_client: our fault, mark no connection
│   └── GrantRefusedError            invalid_grant
├── AccountChangedError              another account of the service came back; somebody has to decide
├── InvalidRequestError              what the caller asked for makes no sense
├── SecretUnreadableError            a sealed value does not open
└── AuthorizationRequiredError       there is no usable token and only a person can get one

Nothing looks at message texts: `code`, `retryable` and `requires_reauthorization` decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from .codes import REFUSED_HERE, SENTENCES, Code, Sentence


class FlowError(Exception):
    """Something stopped a flow.

    Attributes:
        code: Stable code of the public contract, section 7.
        message: One sentence of ours, safe to show to anybody.
        detail: For logs and traces only: what was expected, what came. Never a secret, never a response body.
        retryable: Whether the same call may succeed later.
        requires_reauthorization: Whether only a new sign-in at the provider resolves it.
        request: The authorization request that it ended, where there was one.
    """

    default_code: ClassVar[Code] = Code.SERVER_ERROR
    sentences: ClassVar[Mapping[Code, Sentence]] = SENTENCES
    request: object = None

    def __init__(self, detail: str = "", *, code: Code | None = None) -> None:
        self.code = code or self.default_code
        sentence = self.sentences[self.code]
        self.message = sentence.message
        self.retryable = sentence.retryable
        self.requires_reauthorization = sentence.requires_reauthorization
        self.detail = detail
        super().__init__(f"{self.code}: {detail}" if detail else str(self.code))


class BlockedUrlError(FlowError):
    """Our own guard refused the address."""

    default_code = Code.EGRESS_BLOCKED


class TransportError(FlowError):
    """No response: name, connection, TLS, size. `retry_after` is in seconds where a server gave one."""

    default_code = Code.NETWORK_ERROR


class AnswerLostError(TransportError):
    """The connection ended after the request and before a response: nobody here knows what became of it."""


class ResponseTimeoutError(TransportError):
    """The other side took longer than the deadline."""

    default_code = Code.TIMEOUT


class MalformedResponseError(FlowError):
    """A response that the RFC does not allow."""

    default_code = Code.UPSTREAM_INVALID_RESPONSE


class DiscoveryError(FlowError):
    """No usable metadata. RFC 9728 §3, RFC 8414 §3."""

    default_code = Code.METADATA_DISCOVERY_FAILED


class ResourceMismatchError(DiscoveryError):
    """The protected-resource metadata is for another resource. RFC 9728 §3.3."""

    default_code = Code.RESOURCE_MISMATCH


class IssuerMismatchError(DiscoveryError):
    """A document or an authorization response of another issuer. RFC 8414 §3.3, RFC 9207 §2.4."""

    default_code = Code.ISSUER_MISMATCH


class IssuerChangedError(DiscoveryError):
    """The server now names an authorization server that nobody here has approved."""

    default_code = Code.ISSUER_CHANGED


class IssNotSupportedError(DiscoveryError):
    """The metadata does not promise `iss`, which the settings insist on. RFC 9207 §3, S10."""

    default_code = Code.ISS_UNSUPPORTED


class PkceNotSupportedError(DiscoveryError):
    """The metadata does not list S256. RFC 8414 §2, A-04."""

    default_code = Code.PKCE_UNSUPPORTED


class RegistrationError(FlowError):
    """Registration was refused or gave something unusable. RFC 7591 §3.2."""

    default_code = Code.INVALID_CLIENT_METADATA


class NoClientError(RegistrationError):
    """We are not registered there and cannot register ourselves."""

    default_code = Code.REGISTRATION_NOT_SUPPORTED


class NotConfiguredError(NoClientError):
    """A grant without a person lacks what it needs: a secret, a key, an assertion, or a usable form of it."""

    default_code = Code.GRANT_NOT_CONFIGURED


class StateError(FlowError):
    """The `state` that came back is unknown, used, late, or belongs to another browser or user."""

    default_code = Code.STATE_MISMATCH


class AuthorizationDeniedError(FlowError):
    """The authorization server answered with an error. RFC 6749 §4.1.2.1."""

    default_code = Code.ACCESS_DENIED


class TokenEndpointError(FlowError):
    """The token endpoint answered with an error body. RFC 6749 §5.2."""

    default_code = Code.INVALID_REQUEST


class ClientRefusedError(TokenEndpointError):
    """The server does not accept us as a client. Marks no connection."""

    default_code = Code.INVALID_CLIENT


class GrantRefusedError(TokenEndpointError):
    """The code or refresh token is not accepted any more. RFC 6749 §5.2 `invalid_grant`."""

    default_code = Code.INVALID_GRANT


class AccountChangedError(FlowError):
    """Another account of the service was used than before; what was granted waits for a decision. S15."""

    default_code = Code.ACCOUNT_CHANGED


class InvalidRequestError(FlowError):
    """What the caller asked for makes no sense. We say so and no service: signing in there does not help."""

    default_code = Code.INVALID_REQUEST
    sentences = SENTENCES | {Code.INVALID_REQUEST: REFUSED_HERE}


class SecretUnreadableError(FlowError):
    """A sealed value does not open: another key, another row, or damage."""

    default_code = Code.CREDENTIAL_UNREADABLE


class AuthorizationRequiredError(FlowError):
    """There is no usable token and only a person can get one. `reason` is one of our codes or words for a person."""

    default_code = Code.AUTHORIZATION_REQUIRED

    def __init__(self, detail: str = "", *, reason: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
