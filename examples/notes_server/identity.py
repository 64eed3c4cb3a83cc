"""Who is calling: by access token over HTTP, by environment over stdio."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mcp.server.auth.middleware.auth_context import get_access_token

from . import scopes


@dataclass(frozen=True, slots=True)
class Identity:
    """The person, the program that acts for them, and what it may do."""

    subject: str
    client_id: str
    scopes: frozenset[str]


def identity_of_token() -> Identity:
    """Return the identity that the token verifier found for the current request."""
    token = get_access_token()
    if token is None or token.subject is None:
        # The SDK lets no request through without a token; this is what fails, should that ever change.
        raise PermissionError("no access token")
    return Identity(token.subject, token.client_id, frozenset(token.scopes))


def identity_of_environment() -> Identity:
    """Return who started this process: over stdio there is no OAuth, and the environment is trusted."""
    subject = os.environ.get("NOTES_USER") or os.environ.get("USER") or "local"
    return Identity(subject, "stdio", frozenset(scopes.ALL))
