"""Which scopes a token gets: asked for, and never more than what there is."""

from __future__ import annotations

from collections.abc import Iterable

from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.scopes import format_scope, parse_scope

from .errors import InvalidScopeError


def narrowed_scope(requested: str | None, *, granted: Iterable[str]) -> str:
    """Return the scope of a token, sorted.

    Args:
        requested: As asked for; None or empty means all that is granted.
        granted: What may be had at most.

    Raises:
        InvalidScopeError: Something else was asked for, or the text is no scope.

    Spec: RFC 6749 §3.3, §6. X-05, AS11.
    """
    allowed = set(granted)
    if not requested:
        return format_scope(allowed)
    try:
        wanted = parse_scope(requested)
    except FlowError as error:
        raise InvalidScopeError("The scope cannot be read.") from error
    if not wanted <= allowed:
        raise InvalidScopeError("A scope was asked for that was not granted.")
    return format_scope(wanted)
