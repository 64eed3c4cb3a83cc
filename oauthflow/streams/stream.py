"""One open stream: a short queue that the reader fills and that the connection empties."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from time import monotonic
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar
from uuid import UUID

from connections.models import Connection
from oauthflow.models import Event, EventType

from .rights import person

if TYPE_CHECKING:
    from .reader import EventReader
    from .tickets import Ticket

QUEUE: Final = 200
"""How many events wait at most for a slow connection. After that it ends, and goes on by its cursor when it is back."""
_PAGE: Final = 100

Parameters = ParamSpec("Parameters")
Found = TypeVar("Found")


class StreamEndedError(Exception):
    """Nothing more comes on this stream."""


class Stream:
    """For the thread of the event loop.

    Attributes:
        joined_at: The cursor up to which events were read when it joined: earlier ones are the backlog's.
        connection_id: Only events of this connection; None for all that the user sees.
        ended: Why the site ended it; empty while it is open.
    """

    def __init__(self, ticket: Ticket, *, reader: EventReader, joined_at: int) -> None:
        self.ticket, self.joined_at, self.connection_id = ticket, joined_at, ticket.connection_id
        self.opened_at = monotonic()
        self.ended = ""
        self._reader = reader
        self._queue: deque[Event] = deque()
        self._news = asyncio.Event()

    def offer(self, event: Event) -> None:
        """Queue an event that the user may see."""
        if self.ended or not self._is_about(event):
            return
        if len(self._queue) >= QUEUE:
            self.end("it is read too slowly")
            return
        self._queue.append(event)
        self._news.set()

    def end(self, why: str, *, at_once: bool = False) -> None:
        """Let the stream end: after what is queued, or at once where the user has no right to that any more."""
        self.ended = self.ended or why
        if at_once:
            self._queue.clear()
        self._news.set()

    async def event(self, *, seconds: float | None = None) -> Event | None:
        """Return the next event, or None if none came in that time.

        Raises:
            StreamEndedError: None will come.
        """
        while (event := self._next()) is None:
            if self.ended:
                raise StreamEndedError(self.ended)
            self._news.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._news.wait()
            except TimeoutError:
                return None
        return event

    async def events(self) -> AsyncGenerator[Event, None]:
        """Give events as they come, until the stream ends."""
        try:
            while True:
                event = await self.event()
                if event is not None:
                    yield event
        except StreamEndedError:
            return

    async def backlog(self, after: int) -> AsyncGenerator[Event, None]:
        """Give what the user sees of the events after a cursor that happened before the stream joined."""
        while page := await self.ask(_page, self.ticket.user_id, self.connection_id, after, self.joined_at):
            for event in page:
                yield event
            after = page[-1].cursor

    def _next(self) -> Event | None:
        """Take what is queued; what came before it was known which connection is wanted may be about another.

        A stream about one connection ends with its grant, which is the last that it tells.
        """
        while self._queue:
            event = self._queue.popleft()
            if self._is_about(event):
                if self.connection_id is not None and event.event_type == EventType.CREDENTIALS_REVOKED:
                    self.end("the connection was disconnected", at_once=True)
                return event
        return None

    def _is_about(self, event: Event) -> bool:
        return self.connection_id is None or self.connection_id == event.connection_id

    async def ask(
        self, question: Callable[Parameters, Found], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Found:
        """Run something that uses the database in the reader's thread."""
        return await self._reader.ask(question, *args, **kwargs)


def _page(user_id: int, connection_id: UUID | None, after: int, upto: int) -> list[Event]:
    user = person(user_id)
    if user is None:
        return []
    seen = Event.objects.visible_to(user).after(after).filter(cursor__lte=upto)
    if connection_id is not None:
        if not Connection.objects.visible_to(user).filter(pk=connection_id).exists():
            return []
        seen = seen.filter(connection_id=connection_id)
    return list(seen[:_PAGE])
