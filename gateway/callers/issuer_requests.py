"""Ask another issuer something beside the event loop, within bounds: a slow issuer delays its own callers only."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from gateway.endpoint.answers import BusyError
from oauthflow.protocol.errors import FlowError, MalformedResponseError

Result = TypeVar("Result")

_RETRY_AFTER_SECONDS: Final = 5
_AT_ONE_ISSUER: Final = 4
_WAITING_AT_ONE_ISSUER: Final = 200
_PAUSE_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)


class IssuerUnavailableError(BusyError):
    """The issuer could not be asked, so nobody knows whether the token is good: 503 and never 401."""

    def __init__(self) -> None:
        message = "The issuer of your token cannot be asked at the moment. Try again in a while."
        super().__init__(503, message, wait_seconds=_RETRY_AFTER_SECONDS)


class IssuerRequests:
    """Runs blocking requests in a few threads for each issuer; after a failure that issuer is left alone for a moment.

    All methods belong to the event loop's thread.
    """

    def __init__(self) -> None:
        self._threads = defaultdict[str, ThreadPoolExecutor](_threads)
        self._under_way: dict[tuple[str, Hashable], asyncio.Future[Any]] = {}
        self._waiting = defaultdict[str, int](int)
        self._failed_at: dict[str, float] = {}

    async def ask(self, issuer: str, question: Hashable, request: Callable[[], Result]) -> Result:
        """Return what `request` returns; whoever asks the same meanwhile waits for the same answer.

        Args:
            issuer: Whom it asks.
            question: What it asks there.
            request: Runs in a thread; raises `FlowError` where there is no usable answer, `MalformedResponseError`
                where that may be due to the question: others go on asking then.

        Raises:
            IssuerUnavailableError: There was none, or there was none a moment ago, or too many wait already.
        """
        key = (issuer, question)
        under_way = self._under_way.get(key)
        if under_way is None:
            if self._is_resting(issuer) or self._waiting[issuer] >= _WAITING_AT_ONE_ISSUER:
                raise IssuerUnavailableError
            self._waiting[issuer] += 1
            under_way = asyncio.get_running_loop().run_in_executor(self._threads[issuer], request)
            self._under_way[key] = under_way
            under_way.add_done_callback(partial(self._note_end, key))
        # Unlike a plain await, this ends with a caller who goes away without ending the request of the others.
        await asyncio.wait((under_way,))
        try:
            result: Result = under_way.result()
        except FlowError:
            raise IssuerUnavailableError from None
        return result

    def forget(self) -> None:
        """Begin like a fresh process; for tests."""
        self._under_way.clear()
        self._waiting.clear()
        self._failed_at.clear()

    def _is_resting(self, issuer: str) -> bool:
        return time.monotonic() - self._failed_at.get(issuer, float("-inf")) < _PAUSE_SECONDS

    def _note_end(self, key: tuple[str, Hashable], ended: asyncio.Future[Any]) -> None:
        issuer, _ = key
        self._under_way.pop(key, None)
        self._waiting[issuer] -= 1
        error = None if ended.cancelled() else ended.exception()
        if isinstance(error, FlowError):
            if not isinstance(error, MalformedResponseError):
                self._failed_at[issuer] = time.monotonic()
            _log.warning("an issuer of inbound tokens gave no usable answer", issuer=issuer, code=str(error.code))


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONE_ISSUER, thread_name_prefix="gateway-issuer")


REQUESTS: Final = IssuerRequests()
