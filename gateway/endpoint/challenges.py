"""How the gateway asks for a token: a status, and our own `WWW-Authenticate`, never a server's. G-03, G-05."""

from __future__ import annotations

from oauthflow.protocol.bearer import BearerChallenge, format_challenge

from .answers import NO_STORE, Answer, json_answer


class ChallengeError(Exception):
    """No good token came.

    Attributes:
        status: 401, 403 or 400.
        error: Code of RFC 6750 §3.1; empty where no token came at all.
        description: For the developer of the client; says nothing about tokens that are not theirs.
        scopes: All that the call needs at once. S-06.
    """

    status = 401
    error = ""

    def __init__(self, description: str = "", *, scopes: frozenset[str] = frozenset()) -> None:
        super().__init__(description)
        self.description, self.scopes = description, scopes


class NoTokenError(ChallengeError):
    """No credentials: the challenge carries no error. RFC 6750 §3.1."""


class InvalidTokenError(ChallengeError):
    """Malformed, expired, revoked, or for another resource. T-07."""

    error = "invalid_token"


class InsufficientScopeError(ChallengeError):
    """A good token that may not do this. S-05."""

    status = 403
    error = "insufficient_scope"


class InvalidRequestError(ChallengeError):
    """Credentials twice, or in a form that nobody takes. T-07."""

    status = 400
    error = "invalid_request"


def challenge_answer(error: ChallengeError, *, metadata_url: str) -> Answer:
    """Answer a refusal.

    Args:
        error: Why.
        metadata_url: Of the server that was called; every challenge names it, so that a client can begin from any.

    Spec: RFC 6750 §3; RFC 9728 §5.1. D-03, S-01, S-04 to S-06, T-07.
    """
    challenge = BearerChallenge(
        error=error.error or None,
        error_description=(error.description or None) if error.error else None,
        scope=" ".join(sorted(error.scopes)) or None,
        resource_metadata=metadata_url,
    )
    members = {
        "error": error.error or "unauthorized",
        "error_description": error.description or "An access token for this server is needed.",
    }
    header = (b"www-authenticate", format_challenge(challenge).encode("ascii"))
    return json_answer(members, status=error.status, headers=(NO_STORE, header))
