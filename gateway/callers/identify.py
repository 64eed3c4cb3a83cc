"""Who calls: by a token of ours. RFC 6750, RFC 9068. G-03."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from authserver import tokens
from authserver.resources import GATEWAY_SCOPE, gateway_resource

from ..challenges import ChallengeError, InsufficientScopeError, InvalidTokenError
from .bearer import bearer_token
from .caller import Caller

if TYPE_CHECKING:
    from ..targets import ServerRow

_NEEDED = frozenset({GATEWAY_SCOPE})


async def identify(authorization: Sequence[bytes], *, server: ServerRow) -> Caller:
    """Return who calls.

    Raises:
        ChallengeError: No token, several, or not a good one; told with all scopes that the call needs.
    """
    try:
        return await _caller(bearer_token(authorization), gateway_resource(server.slug))
    except ChallengeError as error:
        error.scopes = error.scopes or _NEEDED
        raise


async def _caller(token: str, audience: str) -> Caller:
    try:
        found = await tokens.averify(token, audience=audience)
    except tokens.InvalidTokenError as error:
        raise InvalidTokenError(error.description) from None
    if found.user_id is None:
        raise InvalidTokenError("This token stands for nobody who may be here.")
    if not found.scopes >= _NEEDED:
        raise InsufficientScopeError("The access token lacks a scope that this call needs.")
    good = partial(_is_still_good, token, audience)
    return Caller(found.user_id, found.subject, found.client_id, found.scopes, found.expires_at, good)


async def _is_still_good(token: str, audience: str) -> bool:
    try:
        await _caller(token, audience)
    except ChallengeError:
        return False
    return True
