"""`POST /api/v1/connections/{id}/token` without Django's request cycle, for the call that most calls are.

The view in `oauthflow.api.connections` stays the reference: this handler answers what that view would answer to a valid
API token that asks for its owner's own, active connection. Where its token is near its end, all callers of this process
wait for one refresh and are looked at again. Everything else, and everything that goes wrong here, is handed on to the
view.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Protocol
from uuid import UUID

import structlog

from audit.correlation import begin_correlation, correlation_id, growing_id
from connections.models.api_token import ApiScope
from oauthflow.error_responses import NO_STORE, RETRY_AFTER_SECONDS
from oauthflow.hot_path.batches import BatchesFullError
from oauthflow.hot_path.opened import OpenedRows
from oauthflow.hot_path.questions import Asker, open_asker
from oauthflow.hot_path.shared_refreshes import SharedRefreshes
from oauthflow.hot_path.uses import USE_IS_OLD_AFTER
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import SecretUnreadableError

from .asked import Asked, plain_call
from .opened import Opened, is_plain, opened
from .recorder import CAPACITY, Recorder, Release
from .statements import QUESTION, Grant, StoredTokens, typed

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]


class HeadersOf(Protocol):
    """Says which headers an answer has after its way through the site's middleware, without length and id."""

    def __call__(self, scheme: str, *, own: Mapping[str, str]) -> Headers:
        """Return them for a request that came by `http` or `https`; `own` is what the answer has before."""


_OF_VIEW: Final = {"Content-Type": "application/json", "Allow": "POST, OPTIONS", **NO_STORE}
_BUSY: Final = "The release of this token could not be recorded at the moment. Try again in a while."
_log = structlog.get_logger(__name__)


class TokenRelease:
    """The handler; `open` it before and `close` it after, or it hands everything on.

    Args:
        otherwise: Django.
        headers_of: Of the site.
        capacity: How many releases may wait for their audit record.
        answered: Told the status and the seconds of every answer of its own.
    """

    def __init__(
        self,
        *,
        otherwise: Application,
        headers_of: HeadersOf,
        capacity: int = CAPACITY,
        answered: Callable[[int, float], None] = lambda status, seconds: None,
    ) -> None:
        self._otherwise, self._capacity, self._answered = otherwise, capacity, answered
        self._asker: Asker | None = None
        self._recorder: Recorder | None = None
        self._refreshes: SharedRefreshes | None = None
        self._opened: OpenedRows[StoredTokens, Opened] = OpenedRows()
        self._headers = {scheme: [*headers_of(scheme, own=_OF_VIEW)] for scheme in ("http", "https")}

    async def open(self) -> None:
        """Connect to the database; does nothing for a database that this package does not speak."""
        self._asker = open_asker(name="token-release-reader")
        if self._asker is not None:
            self._recorder = Recorder(capacity=self._capacity)
            self._refreshes = SharedRefreshes()

    async def close(self) -> None:
        """Finish refreshes, commit the records that wait, and let go of the database."""
        asker, recorder, refreshes = self._asker, self._recorder, self._refreshes
        self._asker = self._recorder = self._refreshes = None
        if refreshes is not None:
            await refreshes.close()
        if recorder is not None:
            await recorder.close()
        if asker is not None:
            await asker.close()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        asked = plain_call(scope) if self._recorder is not None else None
        if asked is None:
            await self._otherwise(scope, receive, send)
            return
        started = time.monotonic()
        is_empty = True
        if asked.has_body:
            message = await receive()
            is_empty = message.get("body") == b"{}" and not message.get("more_body")
            receive = _again(message, receive)
        begin_correlation(asked.request_id or growing_id())
        found = await self._find(asked) if is_empty else None
        recorder = self._recorder
        if found is None or recorder is None:
            await self._otherwise(_named(scope, asked), receive, send)
            return
        status, body, extra = await _release(*found, recorder=recorder)
        headers = [
            *self._headers[scope["scheme"]], *extra,
            (b"content-length", b"%d" % len(body)), (b"x-request-id", correlation_id().encode()),
        ]  # fmt: skip
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._answered(status, time.monotonic() - started)

    async def _find(self, asked: Asked) -> tuple[Grant, Opened] | None:
        """Return the grant and its answer if the case is plain, if need be after a refresh."""
        found = await self._look(asked)
        if found is None or is_plain(found[1]):
            return found
        grant, refreshes = found[0], self._refreshes
        if refreshes is None or not grant.may_refresh:
            return None
        await refreshes.wait_for(asked.connection_id, generation=grant.tokens.generation)
        found = await self._look(asked)
        return found if found is not None and is_plain(found[1]) else None

    async def _look(self, asked: Asked) -> tuple[Grant, Opened] | None:
        """Return them as they are now; whatever fails here, the view tries again."""
        asker = self._asker
        if asker is None:
            return None
        now = datetime.now(UTC)
        try:
            grant = await asker.ask(QUESTION, asked.token_hash, UUID(asked.connection_id), now, now - USE_IS_OLD_AFTER)
            if grant is None or not _may_release(grant.token_scopes) or not grant.tokens.access_token_sealed:
                return None
            answer = self._opened.get(grant.tokens) or self._open(grant.tokens)
        except SecretUnreadableError:
            return None
        except Exception:
            _log.exception("a release is left to the view")
            return None
        return grant, answer

    def _open(self, stored: StoredTokens) -> Opened:
        answer = opened(typed(stored))
        self._opened.keep(stored, answer)
        return answer


async def _release(grant: Grant, answer: Opened, *, recorder: Recorder) -> tuple[int, bytes, Headers]:
    """Record first, then answer."""
    release = Release(
        answer.entry_for(grant, correlation_id=correlation_id()),
        used_token=grant.token_id if grant.is_token_use_old else None,
        used_connection=grant.tokens.connection_id if grant.is_connection_use_old else None,
    )
    try:
        await recorder.record(release)
    except BatchesFullError:
        return _busy(wait_seconds=1)
    except Exception:
        _log.exception("a token is not released, because the release cannot be recorded")
        return _busy(wait_seconds=RETRY_AFTER_SECONDS)
    return 200, answer.body, ()


@lru_cache(maxsize=100)
def _may_release(scopes: str) -> bool:
    listed = json.loads(scopes)
    return isinstance(listed, list) and ApiScope.TOKENS_RELEASE.value in listed


def _named(scope: Mapping[str, Any], asked: Asked) -> Mapping[str, Any]:
    """The view goes on under the id that a refresh was recorded with."""
    if asked.request_id:
        return scope
    return {**scope, "headers": [*scope["headers"], (b"x-request-id", correlation_id().encode())]}


def _busy(*, wait_seconds: int) -> tuple[int, bytes, Headers]:
    body = {
        "error": Code.TEMPORARILY_UNAVAILABLE.value,
        "message": _BUSY,
        "retryable": True,
        "requires_reauthorization": False,
        "correlation_id": correlation_id(),
    }
    return 503, json.dumps(body, separators=(",", ":")).encode(), ((b"retry-after", b"%d" % wait_seconds),)


def _again(message: Any, receive: Receive) -> Receive:
    """Return a `receive` that gives a message that was taken already once more."""
    taken = [message]

    async def replayed() -> Any:
        return taken.pop() if taken else await receive()

    return replayed
