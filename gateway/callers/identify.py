"""Who calls: by a token of ours, by one of the issuer that the server trusts, or by a personal API token. G-03."""

from __future__ import annotations

import hashlib
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from authserver import tokens
from connections.models.api_token import PREFIX
from gateway.endpoint.answers import FailedError
from gateway.endpoint.challenges import ChallengeError, InsufficientScopeError, InvalidTokenError
from gateway.forwarding.headers import Headers
from gateway.targets.find import TARGETS, find_server
from oauthflow.newest import Newest

from .api_tokens import caller_of_api_token
from .bearer import bearer_token
from .caller import Caller, StillGood
from .external_tokens import EXTERNAL_TOKENS
from .people import person_of
from .statements import RIGHT
from .trusts import Trust, trust_of

if TYPE_CHECKING:
    from gateway.targets.find import ServerRow


class _Known(NamedTuple):
    """Whose a token of ours is, as long as server and revocations are these, until a Unix second."""

    server: ServerRow
    revoked: tokens.Revoked
    until: float
    caller: Caller


_MOST_KNOWN: Final = 10_000
_KNOWN: Final[Newest[tuple[str, bytes], _Known]] = Newest(most=_MOST_KNOWN)
_NOBODY: Final = "The access token stands for nobody who may be here."


async def identify(headers: Headers, *, server: ServerRow) -> Caller:
    """Return who calls.

    Whether they are active, and may use the server, is asked on every call together with what they have there
    (`gateway.targets.find`).

    Args:
        headers: Of the request; all values of the Authorization header are looked at.
        server: That is called, as the database has it now.

    Raises:
        ChallengeError: No token, several, or not a good one; told with all scopes that the call needs.
        IssuerUnavailableError: Nobody knows whether the token is good.

    Spec: RFC 6750 §2.1, §3.1; RFC 9068 §4; RFC 7662. G-03, S-01, S-05, S-06, S-10, T-03 to T-05, T-07, G02.
    """
    revoked = tokens.revoked_as_known() or await tokens.arevoked()
    place = (server.slug, headers.judged(_digest))
    known = _KNOWN.get(place)
    if known is not None and known.server is server and known.revoked is revoked and time.time() < known.until:
        return known.caller
    trust = await trust_of(server)
    try:
        token = bearer_token(headers.get_all(b"authorization"))
        still_good = partial(_is_still_good, token, server.slug)
        caller = await _caller(token, trust=trust, is_still_good=still_good, at=time.time())
    except ChallengeError as error:
        error.scopes = error.scopes or trust.needed
        raise
    if caller.expires_at is not None and not trust.is_external and not token.startswith(PREFIX):
        _KNOWN[place] = _Known(server, revoked, caller.expires_at, caller)
    return caller


def _digest(headers: Headers) -> bytes:
    return hashlib.sha256(b"\n".join(headers.get_all(b"authorization"))).digest()


async def _caller(token: str, *, trust: Trust, is_still_good: StillGood, at: float) -> Caller:
    # Ours never leaves: an issuer that is asked about tokens would get to know it.
    if token.startswith(PREFIX):
        if not trust.allow_api_tokens:
            raise InvalidTokenError("This server takes no API tokens.")
        return await caller_of_api_token(token, is_still_good=is_still_good, at=at)
    if trust.is_external:
        return await _caller_of_others(token, trust=trust, is_still_good=is_still_good, at=at)
    return await _caller_of_ours(token, trust=trust, is_still_good=is_still_good, at=at)


async def _caller_of_ours(token: str, *, trust: Trust, is_still_good: StillGood, at: float) -> Caller:
    try:
        found = await tokens.averify(token, audience=trust.audience, at=at)
    except tokens.InvalidTokenError as error:
        raise InvalidTokenError(error.description) from None
    if found.user_id is None:
        raise InvalidTokenError(_NOBODY)
    _require_scope(found.scopes, trust=trust)
    return Caller(found.user_id, found.subject, found.client_id, found.scopes, found.expires_at, is_still_good)


async def _caller_of_others(token: str, *, trust: Trust, is_still_good: StillGood, at: float) -> Caller:
    found = await EXTERNAL_TOKENS.read(token, trust=trust, at=at)
    user_id = await person_of(found, trust=trust)
    if user_id is None:
        raise InvalidTokenError(_NOBODY)
    _require_scope(found.scopes, trust=trust)
    subject = f"external:{found.issuer}#{found.subject}"
    return Caller(user_id, subject, found.client_id, found.scopes, found.expires_at, is_still_good)


def _require_scope(held: frozenset[str], *, trust: Trust) -> None:
    """All that is needed, or one scope that an administrator says implies it. S-10."""
    if not (held >= trust.needed or held & trust.broader):
        raise InsufficientScopeError("The access token lacks a scope that this call needs.", scopes=trust.needed)


async def _is_still_good(token: str, slug: str, at: float) -> bool:
    """Ask all of it anew, as a new call would; what nobody can say ends a stream as well. G14, G-24."""
    server = await find_server(slug)
    if server is None:
        return False
    try:
        still_good = partial(_is_still_good, token, slug)
        caller = await _caller(token, trust=await trust_of(server), is_still_good=still_good, at=at)
    except (ChallengeError, FailedError):
        return False
    return await TARGETS.ask(RIGHT, server.id, caller.user_id) is not None
