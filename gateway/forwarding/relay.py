"""An answer on its way to the client: as it comes, never unpacked, and no more of it than is good. G-09, G-18.

Spec: security notes G05, G13, G16.
"""

from __future__ import annotations

from typing import Final

from oauthflow.egress.relay_client import RawHeader, ServerAnswer

from ..conf import GatewayConfiguration
from ..endpoint.answers import FailedError
from ..streams.watch import StreamEndedError, UnderWay, Watch
from .edited_events import ENDS_OF_EVENT, Edit, EditedEvents, bounded
from .event_size import EventSize

_EVENTS: Final = (b"content-type", b"text/event-stream")
_AT_ONCE_BYTES: Final = 64 * 1024
_UNBUFFERED: Final = (b"x-accel-buffering", b"no")
_TOO_LONG: Final = "The server's answer is too long."


class Relay:
    """Hands one answer on.

    `most_bytes` of it, as a document or as events; of a stream that stays open, of each event. None: as the gateway
    has it.
    """

    def __init__(
        self,
        answer: ServerAnswer,
        *,
        under_way: UnderWay,
        watch: Watch,
        limits: GatewayConfiguration,
        most_bytes: int | None = None,
    ) -> None:
        self._answer, self._under_way, self._watch, self._limits = answer, under_way, watch, limits
        self._most = most_bytes or limits.answer_bytes
        self._exchange = under_way.exchange

    async def document(self, headers: list[RawHeader], *, edit: Edit | None, only_with: bytes) -> None:
        """Relay a JSON document: in one piece if it is all there.

        Raises:
            FailedError: 502, it is too long, or too long to be edited; only of one that does not say its length, and is
                not edited, was something sent.
            FlowError: The server broke off.
        """
        answer, exchange, most = self._answer, self._exchange, self._most
        length = answer.header(b"content-length")
        if length and int(length) > most:
            raise FailedError(502, _TOO_LONG)
        piece = await answer.read_piece()
        if edit is not None or answer.is_complete():
            body = piece if answer.is_complete() and len(piece) <= most else await self._rest(piece)
            changed = self._bounded(edit, only_with=only_with)(body) if edit and only_with in body else None
            await self._whole(headers, changed or body)
            return
        await exchange.begin(answer.status, [*headers, (b"content-length", length)] if length else headers)
        while piece:
            await self._send(piece)
            piece = await answer.read_piece()
            if exchange.sent_bytes > most:
                raise FailedError(502, _TOO_LONG)  # it has no end then, so that nobody takes it for the whole
        await exchange.finish()

    async def events(self, headers: list[RawHeader], *, edit: Edit | None, only_with: bytes) -> None:
        """Relay an event stream as it comes, until either side ends it.

        Raises:
            StreamEndedError: There is more of it than may be, or an event cannot be edited.
            FlowError: The server broke off.
        """
        under_way = self._under_way
        under_way.received_at = under_way.sent_at = self._watch.now
        under_way.is_stream = True
        edited = EditedEvents(self._bounded(edit, only_with=only_with), only_with=only_with) if edit else None
        await self._exchange.begin(self._answer.status, [_EVENTS, _UNBUFFERED, *headers])
        try:
            await self._events(edited)
        except FailedError as error:
            raise StreamEndedError("an event of it cannot be read here", error.message) from None

    async def _events(self, edited: EditedEvents | None) -> None:
        answer, exchange, under_way, watch = self._answer, self._exchange, self._under_way, self._watch
        event = EventSize(most=self._most) if under_way.stays_open else None
        received, line, tail = 0, 0, b""
        while piece := await answer.read_piece():
            end = piece.rfind(b"\n")
            if end < 0:
                end = piece.rfind(b"\r")
            line = len(piece) - end - 1 if end >= 0 else line + len(piece)
            received += len(piece)
            is_too_long = received > self._most if event is None else event.is_exceeded(piece)
            if is_too_long or line > self._limits.event_line_bytes:
                raise StreamEndedError("it is too long", _TOO_LONG)
            under_way.received_at = watch.now
            if edited is not None and not (piece := edited.edited(piece)):
                continue
            tail = piece[-4:] if len(piece) > 3 else (tail + piece)[-4:]
            under_way.is_between_events = tail.endswith(ENDS_OF_EVENT)
            await self._send(piece)
        await exchange.finish(edited.rest() if edited is not None else b"")

    async def _whole(self, headers: list[RawHeader], body: bytes) -> None:
        """Send a long body bit by bit: handed over at once it would stay in memory, and its place would be free."""
        exchange, status = self._exchange, self._answer.status
        if len(body) <= _AT_ONCE_BYTES:
            await exchange.whole(status, headers, body)
            return
        await exchange.begin(status, [*headers, (b"content-length", b"%d" % len(body))])
        for start in range(0, len(body), _AT_ONCE_BYTES):
            await self._send(body[start : start + _AT_ONCE_BYTES])
        await exchange.finish()

    async def _send(self, piece: bytes) -> None:
        under_way = self._under_way
        under_way.sent_at, under_way.is_sending = self._watch.now, True
        await self._exchange.piece(piece)
        under_way.is_sending = False

    def _bounded(self, edit: Edit, *, only_with: bytes) -> Edit:
        return bounded(edit, only_with=only_with, most_bytes=self._limits.edited_bytes)

    async def _rest(self, piece: bytes) -> bytes:
        parts, length = [], 0
        while piece:
            parts.append(piece)
            length += len(piece)
            if length > self._most:
                raise FailedError(502, _TOO_LONG)
            piece = await self._answer.read_piece()
        return parts[0] if len(parts) == 1 else b"".join(parts)
