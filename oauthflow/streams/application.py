"""Serves streams at the root of the site: Django decides who gets one, and is done with it before the first event."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog

from audit.correlation import begin_correlation

from .frames import HEARTBEAT
from .places import Places
from .reader import EventReader
from .stream import Stream
from .tickets import OPENING, Opening, Ticket

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

HEARTBEAT_SECONDS: Final = 15.0
_SEND_SECONDS: Final = 30.0
_PATH: Final = re.compile(r"/api/v1/events|/api/v1/connections/[^/]+/events|/graphql/stream")
_log = structlog.get_logger(__name__)


class EventStreams:
    """The handler of the addresses of streams; everything else is handed on.

    Args:
        otherwise: Django.
        places: How many streams there may be.
        heartbeat_seconds: After how long a quiet stream says that it is there.
    """

    def __init__(
        self,
        *,
        otherwise: Application,
        places: Places | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._otherwise, self._heartbeat_seconds = otherwise, heartbeat_seconds
        self.places = places or Places()
        self._reader: EventReader | None = None

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if not _PATH.fullmatch(scope["path"]):
            await self._otherwise(scope, receive, send)
            return
        opening = Opening(self.places)
        held_back = _HeldBack(opening, send)
        try:
            await self._otherwise({**scope, OPENING: opening}, receive, held_back.send)
            if opening.ticket is not None and held_back.start is not None:
                await self._serve(opening.ticket, held_back.start, receive, send)
        finally:
            opening.close()

    async def open(self) -> None:
        """Nothing to do: the reader begins with the first stream."""

    def end_streams(self) -> None:
        """Let all streams end, because the process is about to stop. F22."""
        if self._reader is not None:
            self._reader.end_all("the site stops")

    async def close(self) -> None:
        """End all streams and the reader."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()

    async def _serve(self, ticket: Ticket, start: Any, receive: Receive, send: Send) -> None:
        reader = self._reader = self._reader or EventReader()
        stream = await reader.join(ticket)
        begin_correlation(ticket.correlation_id)  # Django's ended with its answer; the reader is everybody's
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await send(start)
            await self._write(stream, send=send, gone=gone)
        except TimeoutError:
            _log.info("a stream was ended", reason="nobody reads it")
        finally:
            gone.cancel()
            reader.leave(stream)

    async def _write(self, stream: Stream, *, send: Send, gone: asyncio.Task[None]) -> None:
        """Send frames as they come, and a comment where none came for a while, until either side ends it."""
        frames = stream.ticket.frames(stream)
        following = _following(frames)
        try:
            while True:
                waited_for = {following, gone}
                await asyncio.wait(waited_for, timeout=self._heartbeat_seconds, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    return
                chunk = following.result() if following.done() else HEARTBEAT
                async with asyncio.timeout(_SEND_SECONDS):
                    await send({"type": "http.response.body", "body": chunk or b"", "more_body": bool(chunk)})
                if not chunk:
                    return
                if following.done():
                    following = _following(frames)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await frames.aclose()


def _following(frames: Any) -> asyncio.Task[bytes]:
    return asyncio.ensure_future(anext(frames, b""))


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


class _HeldBack:
    """Django's answer: handed on, unless the view admitted a stream; then only its headers are kept."""

    def __init__(self, opening: Opening, send: Send) -> None:
        self._opening, self._send = opening, send
        self.start: dict[str, Any] | None = None

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200 and self._opening.ticket is not None:
            headers = [(name, value) for name, value in message["headers"] if name.lower() != b"content-length"]
            self.start = {**message, "headers": headers}
        elif self.start is None:
            await self._send(message)
