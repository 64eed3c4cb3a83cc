"""Every code that the product shows, and what a person is told. Public contract, section 7."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """The wire's own code where the wire has one (RFC 6749 §4.1.2.1, §5.2; RFC 7591 §3.2.2), else ours."""

    ACCESS_DENIED = "access_denied"
    INVALID_REQUEST = "invalid_request"
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    UNSUPPORTED_RESPONSE_TYPE = "unsupported_response_type"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    INVALID_CLIENT = "invalid_client"
    INVALID_SCOPE = "invalid_scope"
    SERVER_ERROR = "server_error"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    INVALID_GRANT = "invalid_grant"
    INVALID_REDIRECT_URI = "invalid_redirect_uri"
    INVALID_CLIENT_METADATA = "invalid_client_metadata"
    REGISTRATION_NOT_SUPPORTED = "registration_not_supported"
    NETWORK_ERROR = "network_error"
    TIMEOUT = "timeout"
    METADATA_DISCOVERY_FAILED = "metadata_discovery_failed"
    AUTHORIZATION_TIMEOUT = "authorization_timeout"
    STATE_MISMATCH = "state_mismatch"
    PKCE_VERIFICATION_FAILED = "pkce_verification_failed"
    ISSUER_MISMATCH = "issuer_mismatch"
    ISSUER_CHANGED = "issuer_changed"
    RESOURCE_MISMATCH = "resource_mismatch"
    PKCE_UNSUPPORTED = "pkce_unsupported"
    EGRESS_BLOCKED = "egress_blocked"
    INVALID_RETURN_TO = "invalid_return_to"
    FLOW_SESSION_MISMATCH = "flow_session_mismatch"
    LINK_USER_MISMATCH = "link_user_mismatch"
    STATE_USED = "state_used"
    STATE_EXPIRED = "state_expired"
    CREDENTIAL_UNREADABLE = "credential_unreadable"
    UPSTREAM_INVALID_RESPONSE = "upstream_invalid_response"
    AUTHORIZATION_REQUIRED = "authorization_required"
    ACCOUNT_CHANGED = "account_changed"
    ISS_UNSUPPORTED = "iss_unsupported"
    GRANT_NOT_CONFIGURED = "grant_not_configured"


@dataclass(frozen=True, slots=True)
class Sentence:
    """What a person is told, and what may be done about it."""

    message: str
    retryable: bool = False
    requires_reauthorization: bool = False


# Why a connection is not simply connected, where that is none of the codes.
REASONS: dict[str, str] = {
    "not_connected": "Nobody has signed in yet.",
    "disconnected": "It was disconnected.",
    "no_refresh_token": "The access has ended, and the service gave no way to renew it. Please reconnect.",
    "fresh_token_refused": "The server refuses even access that was renewed a moment ago. Please reconnect.",
    "refresh_outcome_lost": "This site was stopped while it renewed the access, and lost it. Please reconnect.",
    "refresh_quarantined": "Renewing the access fails for a reason on this site. An administrator has to look.",
    "user_deactivated": "The account of its owner here was deactivated.",
    "identity_required": "The company's sign-in service has to vouch for this. Please sign in there.",
    "insufficient_scope": "The server asks for more permissions than were given. Please reconnect.",
}

SENTENCES: dict[Code, Sentence] = {
    Code.ACCESS_DENIED: Sentence(
        "The service did not give access. If you did not refuse it yourself, ask its administrator.", True, True
    ),
    Code.INVALID_REQUEST: Sentence("The request was not understood. Please connect again.", True, True),
    Code.UNAUTHORIZED_CLIENT: Sentence(
        "The service does not allow this site to connect. An administrator has to permit it there."
    ),
    Code.UNSUPPORTED_RESPONSE_TYPE: Sentence(
        "The service does not offer the sign-in this site uses. An administrator has to check the server's settings."
    ),
    Code.UNSUPPORTED_GRANT_TYPE: Sentence(
        "The service does not offer the kind of access this site uses. An administrator has to check the settings."
    ),
    Code.INVALID_CLIENT: Sentence(
        "The service does not recognise this site's registration. An administrator has to check or reset it."
    ),
    Code.INVALID_SCOPE: Sentence(
        "The service does not know a permission that was asked for. An administrator has to adjust the scopes."
    ),
    Code.SERVER_ERROR: Sentence("The service has a problem at the moment. Try again in a while.", True),
    Code.TEMPORARILY_UNAVAILABLE: Sentence("The service is not available at the moment. Try again in a while.", True),
    Code.INVALID_GRANT: Sentence("The access has ended. Please reconnect.", False, True),
    Code.INVALID_REDIRECT_URI: Sentence(
        "The service refused this site's return address. An administrator has to register it there."
    ),
    Code.INVALID_CLIENT_METADATA: Sentence(
        "The service refused to register this site. An administrator may have to register it by hand."
    ),
    Code.REGISTRATION_NOT_SUPPORTED: Sentence(
        "The service does not register new sites by itself. An administrator has to enter a client id first."
    ),
    Code.NETWORK_ERROR: Sentence("The service could not be reached. Try again in a while.", True),
    Code.TIMEOUT: Sentence("The service took too long to answer. Try again.", True),
    Code.METADATA_DISCOVERY_FAILED: Sentence(
        "The server's sign-in settings could not be found. Its address may be wrong.", True
    ),
    Code.AUTHORIZATION_TIMEOUT: Sentence("Signing in took too long. Please try again.", True, True),
    Code.STATE_MISMATCH: Sentence(
        "This sign-in does not belong to anything started here. Please start again.", True, True
    ),
    Code.PKCE_VERIFICATION_FAILED: Sentence("The sign-in could not be verified. Please start again.", True, True),
    Code.ISSUER_MISMATCH: Sentence(
        "The answer came from another sign-in service than the one asked. Nothing was stored; tell an administrator."
    ),
    Code.ISSUER_CHANGED: Sentence(
        "The server now uses another sign-in service. An administrator has to approve it first."
    ),
    Code.RESOURCE_MISMATCH: Sentence(
        "The server describes itself under another address. An administrator has to check its URL."
    ),
    Code.PKCE_UNSUPPORTED: Sentence(
        "The service does not promise the protection (PKCE, S256) this site insists on. An administrator has to decide."
    ),
    Code.EGRESS_BLOCKED: Sentence(
        "This address may not be contacted from here. An administrator can allow it deliberately (EGRESS_ALLOW)."
    ),
    Code.INVALID_RETURN_TO: Sentence("The return address is not one of this site's own pages."),
    Code.FLOW_SESSION_MISMATCH: Sentence(
        "This sign-in was started in another browser or by another person. Please start again here.", True, True
    ),
    Code.LINK_USER_MISMATCH: Sentence(
        "This link was made for another account. Sign in as that account, or start your own."
    ),
    Code.STATE_USED: Sentence("This sign-in has been completed already. Start again if you need to.", True, True),
    Code.STATE_EXPIRED: Sentence("This sign-in has expired. Please start again.", True, True),
    Code.CREDENTIAL_UNREADABLE: Sentence(
        "A stored credential cannot be opened with this site's keys. Nothing was lost; an administrator has to look."
    ),
    Code.UPSTREAM_INVALID_RESPONSE: Sentence(
        "The service gave an answer that makes no sense. Try again in a while.", True
    ),
    Code.AUTHORIZATION_REQUIRED: Sentence("Somebody has to sign in at the service first.", False, True),
    Code.ACCOUNT_CHANGED: Sentence(
        "Another account of the service was used than before. Nothing is replaced unless you confirm it."
    ),
    Code.ISS_UNSUPPORTED: Sentence(
        "The service does not promise to name itself in its answers (iss), which this site insists on. "
        "An administrator has to decide."
    ),
    Code.GRANT_NOT_CONFIGURED: Sentence(
        "This site lacks what it needs to get access without a person. "
        "An administrator has to complete the server's settings and check it."
    ),
}

REFUSED_HERE = Sentence("What was sent makes no sense here. Signing in again does not help.")
"""Of `invalid_request` where we say it ourselves; its other sentence is about what a service did not understand."""
