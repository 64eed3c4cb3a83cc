"""Personal API tokens, for scripts, at servers that allow them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Any, Final

from connections.last_use import note_use
from connections.models import ApiToken
from connections.models.api_token import ApiScope, hash_api_token
from gateway.endpoint.challenges import InsufficientScopeError, InvalidTokenError
from gateway.targets.find import TARGETS
from oauthflow.hot_path.questions import as_moment, as_uuid

from .caller import Caller, StillGood
from .statements import API_TOKEN

_NEEDED: Final = frozenset({ApiScope.TOOLS_CALL.value})
_USE_IS_OLD_AFTER: Final = timedelta(minutes=1)
_noting: Final[set[asyncio.Task[None]]] = set()


async def caller_of_api_token(token: str, *, is_still_good: StillGood, at: float) -> Caller:
    """Return whose token it is, as the database has it at this moment.

    Args:
        token: Begins as ours do.
        is_still_good: For `Caller`.
        at: Unix second at which it must not have expired.

    Raises:
        InvalidTokenError: Unknown, revoked or expired, or of somebody who is not active.
        InsufficientScopeError: It is not for calling tools.
    """
    now = datetime.fromtimestamp(at, UTC)
    found = await TARGETS.ask(API_TOKEN, hash_api_token(token), now - _USE_IS_OLD_AFTER)
    expires_at = as_moment(found.expires_at).timestamp() if found is not None and found.expires_at else None
    if found is None or (expires_at is not None and expires_at <= at):
        raise InvalidTokenError("The API token is not known here, or not good any more.")
    scopes = _scopes(found.scopes)
    if not scopes >= _NEEDED:
        raise InsufficientScopeError("The API token is not for calling tools.", scopes=_NEEDED)
    if found.is_use_old:
        _note(found.id, now=now)
    return Caller(
        user_id=found.user_id,
        subject=f"api-token:{as_uuid(found.id)}",
        client_id=found.name,
        scopes=scopes,
        expires_at=expires_at,
        is_still_good=is_still_good,
    )


@lru_cache(maxsize=100)
def _scopes(listed: str) -> frozenset[str]:
    scopes = json.loads(listed)
    return frozenset(scopes) if isinstance(scopes, list) else frozenset()


def _note(token_id: Any, *, now: datetime) -> None:
    """Beside the call, which does not wait for it."""
    task = asyncio.create_task(TARGETS.threads.run(partial(_note_now, token_id, now)))
    _noting.add(task)
    task.add_done_callback(_noting.discard)


def _note_now(token_id: Any, now: datetime) -> None:
    token = ApiToken.objects.filter(pk=token_id).first()
    if token is not None:
        note_use(token, now=now)
