"""Whether open streams may still be open: asked for all of them together. G-24; security notes G14."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog
from django.conf import settings

from ..conf import GatewayConfiguration
from .watch import EndedHereError, RightEndedError, StreamEndedError, UnderWay, Watch

_WITH_REDIS_SECONDS: Final = 0.4
"""A site with Redis runs many processes and ends a right within a second everywhere; what tokens say is half as old."""
_AT_ONCE: Final = 200
_SLOW_SECONDS: Final = 0.3
_ENDED: Final = "The right to this has ended."
"""Whichever it was, and no more than a new request would be told."""
_NOBODY_KNOWS: Final = "The gateway cannot look this up at the moment."
_log = structlog.get_logger(__name__)


class Rights:
    """Ends streams whose caller was deactivated, whose token was revoked, or whose connection is another one."""

    def __init__(self, watch: Watch, limits: GatewayConfiguration) -> None:
        self._watch = watch
        self._asking: dict[UnderWay, asyncio.Task[None]] = {}
        self._pause = _WITH_REDIS_SECONDS if settings.REDIS_URL else limits.rights_seconds

    async def open(self) -> None:
        """Begin to ask; while no stream is open, nothing is asked."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Ask no more."""
        self._task.cancel()
        for asking in self._asking.values():
            asking.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            streams = self._watch.streams()
            for start in range(0, len(streams), _AT_ONCE):
                await self._ask(streams[start : start + _AT_ONCE])

    async def _ask(self, streams: Sequence[UnderWay]) -> None:
        """Whoever is slow to answer, such as another issuer, delays the end of their own streams only."""
        asked = {stream: asyncio.create_task(self._look(stream)) for stream in streams if stream not in self._asking}
        self._asking |= asked
        if asked:
            await asyncio.wait(asked.values(), timeout=_SLOW_SECONDS)

    async def _look(self, stream: UnderWay) -> None:
        why: StreamEndedError = RightEndedError("the right to it has ended", _ENDED)
        still_may = False
        try:
            still_may = await stream.still_may()
        except Exception as error:
            _log.warning("nobody knows whether a stream may stay open", name=type(error).__name__)
            why = EndedHereError("nobody knows whether it may stay open", _NOBODY_KNOWS)
        finally:
            del self._asking[stream]
        if not still_may:
            stream.stop(why)
