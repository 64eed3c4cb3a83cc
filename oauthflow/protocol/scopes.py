"""Scopes: between text and set, the first choice, and the step-up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from .codes import Code
from .errors import InvalidRequestError

OFFLINE_ACCESS: Final = "offline_access"

_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


def parse_scope(text: str) -> frozenset[str]:
    """Read space-separated scopes that somebody here wrote; empty text is the empty set.

    Raises:
        InvalidRequestError: With the code `invalid_scope`: a character that a scope may not have, such as a quote,
            a backslash, a tab or anything beyond ASCII.

    Spec: RFC 6749 §3.3.
    """
    scopes = frozenset(part for part in text.split(" ") if part)
    if not all(_SCOPE_TOKEN.fullmatch(scope) for scope in scopes):
        raise InvalidRequestError("a scope holds a character that scopes may not have", code=Code.INVALID_SCOPE)
    return scopes


def format_scope(scopes: Iterable[str]) -> str:
    """Return the scopes as text: each once, sorted, separated by single spaces. RFC 6749 §3.3."""
    return " ".join(sorted(set(scopes)))


def initial_scopes(
    *,
    configured: str,
    challenge: str | None,
    scopes_supported: Sequence[str] | None,
    as_scopes_supported: Sequence[str] | None,
    want_offline: bool = True,
) -> str:
    """Choose the scopes of a first authorization request.

    What an administrator configured goes first, unchanged but for an added `offline_access`; else the challenge's
    scopes, else all of the protected resource's. Words of other servers that are no scopes are left out.

    Args:
        configured: Space-separated; empty where nothing is configured.
        challenge: The `scope` of the 401 challenge, None where it had none.
        scopes_supported: Of the protected-resource metadata.
        as_scopes_supported: Of the authorization server metadata; it alone decides about `offline_access`.
        want_offline: Whether a refresh token is of use.

    Returns:
        Space-separated and sorted; empty means that the request has no `scope` parameter. `offline_access` is
        never asked for alone, since that would replace the server's default scopes.

    Raises:
        InvalidRequestError: `configured` holds something that is no scope.

    Spec: RFC 6749 §3.3; OpenID Connect Core 1.0 §11. S-02, S-03, S-12.
    """
    offered = OFFLINE_ACCESS in (as_scopes_supported or ())
    chosen = parse_scope(configured)
    if not chosen:
        named = usable_scopes(challenge or "") or usable_scopes(" ".join(scopes_supported or ()))
        chosen = named - {OFFLINE_ACCESS}
    if chosen and offered and want_offline:
        chosen |= {OFFLINE_ACCESS}
    return format_scope(chosen)


def step_up_scopes(*, requested: str, granted: str, challenged: str) -> str:
    """Return what a step-up asks for: everything asked for before or granted, together with what is challenged.

    Spec: MCP authorization, step-up. S-02, S-08.
    """
    return format_scope(usable_scopes(requested) | usable_scopes(granted) | usable_scopes(challenged))


def usable_scopes(text: str) -> frozenset[str]:
    """Return the scopes in the words of another server, whose mistakes must not stop a flow. RFC 6749 §3.3."""
    return frozenset(part for part in text.split() if _SCOPE_TOKEN.fullmatch(part))
