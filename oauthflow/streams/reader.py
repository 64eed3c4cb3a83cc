"""One reader for all streams of a process: it looks at the table, and hands each event to whoever may see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic
from typing import Final, ParamSpec, TypeVar
from uuid import UUID

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections, connections

from oauthflow.models import Event

from .rights import audience, lapsed
from .stream import Stream
from .tickets import Ticket
from .wake import Listener

LOOK_SECONDS: Final = 0.5
"""How often the reader looks for events where nothing wakes it."""
_LOOK_ANYWAY_SECONDS: Final = 5.0
_RIGHTS_SECONDS: Final = 2.0
_LONGEST_LIFE_SECONDS: Final = 3600.0
_PAGE: Final = 500

Parameters = ParamSpec("Parameters")
Found = TypeVar("Found")
_log = structlog.get_logger(__name__)


class EventReader:
    """For one event loop. While no stream is open it asks nothing.

    Cursors grow in the order of commits (`oauthflow.models.Event`), so that "everything after the last one" misses
    nothing and repeats nothing.
    """

    def __init__(self) -> None:
        self._streams: set[Stream] = set()
        self._position = 0
        self._turn = asyncio.Lock()
        self._occupied, self._woken = asyncio.Event(), asyncio.Event()
        self._listener = Listener(self._woken.set)
        self._tasks: list[asyncio.Task[None]] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="event-reader")
        self._looked_at = self._checked_at = 0.0

    async def join(self, ticket: Ticket) -> Stream:
        """Open a stream: it gets everything that is committed from now on."""
        async with self._turn:
            if not self._streams:
                self._position = await self.ask(Event.objects.newest_cursor)
            stream = Stream(ticket, reader=self, joined_at=self._position)
            self._streams.add(stream)
            self._occupied.set()
            if not self._tasks:
                self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._listener.run())]
        return stream

    def leave(self, stream: Stream) -> None:
        """Forget a stream whose connection is closed."""
        self._streams.discard(stream)
        if not self._streams:
            self._occupied.clear()

    def end_all(self, why: str) -> None:
        """Let all streams end after what is queued for them."""
        for stream in self._streams:
            stream.end(why)

    async def close(self) -> None:
        """End all streams, the reader and its thread."""
        self.end_all("the site stops")
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._thread, connections.close_all)
        self._thread.shutdown()

    async def ask(
        self, question: Callable[Parameters, Found], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Found:
        """Run something that uses the database in the one thread that all streams share."""
        asked = partial(_with_connection, partial(question, *args, **kwargs))
        return await asyncio.get_running_loop().run_in_executor(self._thread, asked)

    async def _run(self) -> None:
        while True:
            await self._occupied.wait()
            try:
                await self._look()
                await self._check()
            except (DatabaseError, InterfaceError) as error:
                # Streams stay open: what they miss now is read as soon as the database is back.
                _log.warning("events cannot be read", name=type(error).__name__)
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        due = monotonic() - self._looked_at >= _LOOK_ANYWAY_SECONDS
        if self._listener.listens and not self._woken.is_set() and not due:
            return
        self._woken.clear()
        self._looked_at = monotonic()
        is_full = True
        while is_full:
            async with self._turn:
                listening = {stream.ticket.user_id for stream in self._streams}
                events, seen_by = await self.ask(_read, self._position, listening)
                self._hand_out(events, seen_by)
            is_full = len(events) == _PAGE

    def _hand_out(self, events: Sequence[Event], seen_by: dict[UUID, set[int]]) -> None:
        if not events:
            return
        self._position = events[-1].cursor
        streams_of: dict[int, list[Stream]] = {}
        for stream in self._streams:
            streams_of.setdefault(stream.ticket.user_id, []).append(stream)
        for event in events:
            users = seen_by[event.connection_id] if event.user_id is None else {event.user_id}
            for user_id in users & streams_of.keys():
                for stream in streams_of[user_id]:
                    stream.offer(event)

    async def _check(self) -> None:
        """End streams that nobody has a right to any more, and those that are an hour old."""
        pause = LOOK_SECONDS if settings.REDIS_URL else _RIGHTS_SECONDS
        if monotonic() - self._checked_at < pause * 0.9:
            return
        self._checked_at = monotonic()
        open_streams = [stream for stream in self._streams if not stream.ended]
        over = await self.ask(lapsed, [(stream.ticket, stream.connection_id) for stream in open_streams])
        for stream in open_streams:
            if stream.ticket in over:
                stream.end("the right to it has ended", at_once=True)
            elif monotonic() - stream.opened_at > _LONGEST_LIFE_SECONDS:
                stream.end("it is old; come back")


def _read(position: int, listening: Collection[int]) -> tuple[list[Event], dict[UUID, set[int]]]:
    events = list(Event.objects.after(position)[:_PAGE])
    return events, audience(events, listening=listening)


def _with_connection(question: Callable[[], Found]) -> Found:
    close_old_connections()
    try:
        return question()
    finally:
        close_old_connections()
