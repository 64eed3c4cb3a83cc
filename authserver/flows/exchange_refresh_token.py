"""`grant_type=refresh_token`: the newest refresh token for its successor.

A client may lose the answer, or ask twice at once. For a few seconds the token before the newest therefore gives the
very same successor again, out of a copy that only that token opens: nothing branches, and what the database holds is
enough, also after a crash or in another process. Anything older is in two hands.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from audit.events import AuditEvent

from ..conf import authserver_configuration, issuer
from ..protocol.errors import InvalidGrantError, InvalidRequestError, InvalidTargetError
from ..protocol.granted_scope import narrowed_scope
from ..protocol.opaque import hash_of_token, new_refresh_token, read_opaque, was_issued
from ..protocol.token_response import TokenResponse, open_response, seal_response
from ..statements import StoredClient, StoredFamily, find_family, rotate
from .family_tokens import mint_for_family
from .reuse import REFRESH_REUSED, ReuseError


def exchange_refresh_token(form: Mapping[str, str], *, client: StoredClient, now: datetime) -> TokenResponse:
    """Rotate a refresh token. A request that is wrong in any way leaves the token as it is.

    Args:
        form: Of `read_form`; `refresh_token` is needed.
        client: Authenticated.
        now: Aware UTC.

    Raises:
        InvalidGrantError: Unknown, ended, expired, or another client's.
        ReuseError: Older than the last two, or the last but one after its window; nothing is changed yet.
        InvalidTargetError: `resource` is another one.
        InvalidScopeError: More than was granted.
        InvalidRequestError: The token is missing.

    Spec: RFC 6749 §6; RFC 9700 §4.14.2; RFC 8707 §2.2. T-10, X-04, X-05, AS07.
    """
    text = form.get("refresh_token")
    if not text:
        raise InvalidRequestError("The parameter refresh_token is missing.")
    presented = read_opaque(text)
    family = find_family(presented.family_id) if presented else None
    if presented is None or family is None or not was_issued(presented, marking_key=family.marking_key):
        raise InvalidGrantError("The refresh token is not known.")
    if family.client_id != client.id:
        raise InvalidGrantError("The refresh token is not this client's.")
    if form.get("resource", family.resource) != family.resource:
        raise InvalidTargetError("The resource is not the one that was granted.")
    scope = narrowed_scope(form.get("scope"), granted=family.scope.split())
    if not family.is_standing or now >= family.expires_at:
        raise InvalidGrantError("The grant has ended.")
    token_hash = hash_of_token(text)
    if family.refresh_hash == token_hash:
        response = _successor(family, client=client, scope=scope, now=now)
        sealed = seal_response(response, presented=text, family_id=family.id, issuer=issuer())
        new_hash = hash_of_token(response.refresh_token)
        if rotate(family.id, old_hash=token_hash, new_hash=new_hash, sealed=sealed, now=now):
            return response
        # Another process was faster by a moment: its successor is ours too.
        family = find_family(family.id) or family
    return _again(family, text=text, token_hash=token_hash, now=now)


def _successor(family: StoredFamily, *, client: StoredClient, scope: str, now: datetime) -> TokenResponse:
    token = new_refresh_token(family.id, marking_key=family.marking_key).reveal()
    return mint_for_family(family, client=client, scope=scope, refresh_token=token, now=now)


def _again(family: StoredFamily, *, text: str, token_hash: str, now: datetime) -> TokenResponse:
    """Give the same successor once more, if the token is the last but one and the window is open."""
    if not family.is_standing:
        raise InvalidGrantError("The grant has ended.")
    window = timedelta(seconds=authserver_configuration().refresh_window_seconds)
    is_previous = family.previous_hash == token_hash and family.rotated_at is not None
    if is_previous and family.rotated_at is not None and window and now - family.rotated_at <= window:
        response = open_response(family.successor_sealed, presented=text, family_id=family.id, issuer=issuer())
        if response is not None:
            return response
    raise ReuseError(
        "The refresh token was used before.",
        family_id=family.id,
        event=AuditEvent.REFRESH_REUSE_DETECTED,
        reason=REFRESH_REUSED,
    )
