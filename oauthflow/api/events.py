"""Events over REST: as a stream of Server-Sent Events, or page by page for whoever polls."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, ClassVar, Final
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from connections.models.api_token import ApiScope
from oauthflow.event_body import event_body
from oauthflow.models import Event, EventType
from oauthflow.models.event import EventQuerySet
from oauthflow.streams.frames import RETRY, cursor_frame, event_frame
from oauthflow.streams.renderer import EventStreamRenderer, answer_json, wants_stream
from oauthflow.streams.stream import Stream
from oauthflow.streams.tickets import opening_of

from .answers import REFUSALS
from .rest_view import RestView, visible_connection

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 500
_LARGEST_CURSOR: Final = 2**63 - 1


class EventSerializer(serializers.Serializer[Event]):
    """One event; the same object is in the `data` of Server-Sent Events."""

    id = serializers.IntegerField(help_text="The cursor: go on `after` it.")
    event = serializers.ChoiceField(choices=EventType.choices)
    connection_id = serializers.UUIDField()
    server = serializers.CharField(help_text="Slug.")
    timestamp = serializers.DateTimeField()
    message = serializers.CharField(help_text="One sentence for a person.")
    code = serializers.CharField(allow_null=True, help_text="A stable code, where there is a reason.")
    requires_user_action = serializers.BooleanField()
    authorization_url = serializers.URLField(allow_null=True, help_text="Where the person gets on.")


class EventPageSerializer(serializers.Serializer[Any]):
    """Events, oldest first."""

    events = EventSerializer(many=True)
    cursor = serializers.IntegerField(help_text="Ask `after` it next time.")
    has_more = serializers.BooleanField(help_text="Whether there is more already.")


_AFTER: Final = OpenApiParameter("after", OpenApiTypes.INT64, description="Only what came after the event of that id.")
_LIMIT: Final = OpenApiParameter("limit", OpenApiTypes.INT, description=f"At most so many, from 1 to {MAX_PAGE}.")
_LAST_ID: Final = OpenApiParameter(
    "Last-Event-ID", OpenApiTypes.INT64, location=OpenApiParameter.HEADER, description="As `after`, and before it."
)
_ANSWERS: Final[dict[Any, Any]] = {
    (200, "application/json"): EventPageSerializer, (200, "text/event-stream"): OpenApiTypes.STR, **REFUSALS,
}  # fmt: skip


class _EventView(RestView):
    required_scopes: ClassVar = {"GET": ApiScope.CONNECTIONS_READ}

    def answer(self, request: Request, *, connection_id: UUID | None = None) -> Response:
        newest = Event.objects.newest_cursor()
        after = _after(request, newest=newest)
        if wants_stream(request):
            return self._stream(request, after=after, newest=newest, connection_id=connection_id)
        page = self._page(after or 0, newest=newest, connection_id=connection_id)
        wanted = request.query_params.get("limit") or str(DEFAULT_PAGE)
        limit = _number(wanted, name="limit", smallest=1, largest=MAX_PAGE)
        events = list(page[: limit + 1])
        has_more = len(events) > limit
        events = events[:limit]
        cursor = events[-1].cursor if has_more else newest
        return Response({"events": [event_body(event) for event in events], "cursor": cursor, "has_more": has_more})

    def _stream(self, request: Request, *, after: int | None, newest: int, connection_id: UUID | None) -> Response:
        opening = opening_of(request)
        if opening is not None:
            opening.admit(request, frames=event_frames(after=after), connection_id=connection_id)
            return Response(RETRY, headers={"X-Accel-Buffering": "no"})
        # Served without the root of the site: what there is, and the browser comes back for more.
        found = self._page(newest if after is None else after, newest=newest, connection_id=connection_id)[:MAX_PAGE]
        events = list(found)
        told = [RETRY, *map(event_frame, events), cursor_frame(events[-1].cursor if events else newest)]
        return Response(b"".join(told))

    def _page(self, after: int, *, newest: int, connection_id: UUID | None) -> EventQuerySet:
        seen = Event.objects.visible_to(self.person).after(after).filter(cursor__lte=newest)
        return seen.filter(connection_id=connection_id) if connection_id is not None else seen

    def handle_exception(self, exc: Exception) -> Response:
        answer_json(self.request)
        return super().handle_exception(exc)


class EventsView(_EventView):
    """What happened to the caller's connections and to those shared with them."""

    renderer_classes = (JSONRenderer, EventStreamRenderer)

    @extend_schema(
        operation_id="events_list", summary="Read events: poll, or listen with Accept: text/event-stream",
        parameters=[_AFTER, _LIMIT, _LAST_ID], responses=_ANSWERS,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        return self.answer(request)


class ConnectionEventsView(_EventView):
    """What happens to one connection."""

    renderer_classes = (EventStreamRenderer, JSONRenderer)

    @extend_schema(
        operation_id="connections_events", summary="Listen to the events of a connection",
        parameters=[_AFTER, _LIMIT, _LAST_ID], responses=_ANSWERS,
    )  # fmt: skip
    def get(self, request: Request, connection_id: str) -> Response:
        connection = visible_connection(self.person, connection_id)
        return self.answer(request, connection_id=connection.pk)


def event_frames(*, after: int | None) -> Callable[[Stream], AsyncGenerator[bytes, None]]:
    """Return what is written to a stream: what came after a cursor, if one is given, and then what comes."""

    async def frames(stream: Stream) -> AsyncGenerator[bytes, None]:
        yield RETRY
        if after is not None:
            async for event in stream.backlog(after):
                yield event_frame(event)
        yield cursor_frame(stream.joined_at)
        async for event in stream.events():
            yield event_frame(event)
        yield f": {stream.ended}\n\n".encode()

    return frames


def _after(request: Request, *, newest: int) -> int | None:
    """Return the cursor that a caller names, in the header of a browser that comes back or in the address.

    Raises:
        ParseError: It is no cursor, or one that no event has had yet.
    """
    said = request.headers.get("Last-Event-ID") or request.query_params.get("after")
    if said is None:
        return None
    cursor = _number(said, name="after", largest=_LARGEST_CURSOR)
    if cursor > newest:
        raise ParseError(f"after={cursor} lies in the future: the newest event is {newest}. Begin again without it.")
    return cursor


def _number(text: str, *, name: str, smallest: int = 0, largest: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and smallest <= int(text) <= largest):
        raise ParseError(f"{name} has to be a whole number from {smallest} to {largest}.")
    return int(text)
