"""One request of a client, and how far its answer has come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oauthflow.egress.relay_client import RawHeader

from ..forwarding.headers import Headers, KnownHeaders
from .answers import CLOSE, Answer, FailedError

if TYPE_CHECKING:
    from ..calls.outcome import AnswerEnd

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


class Exchange:
    """Reads the request and writes the answer.

    Attributes:
        method: Of the request.
        query: Of its address; never forwarded.
        label: Which of several connections it names; empty: none.
        connection: Id of the connection whose credentials it goes upstream with, once that is known; empty: none.
        headers: Of the request, but for its length and its id.
        request_id: That the client gave it; None: none.
        message_id: Of the JSON-RPC request, once that is known. G-10.
        added: Headers that every answer gets; a part of the flow may add to them before the answer begins.
        seen: Keeps the end of the answer's body, where there are requests that it answers.
        status: Of the answer; 0 before it has begun.
        sent_bytes: Of its body, so far.
        is_whole: Whether the answer has come to its end.
    """

    __slots__ = (
        "_length",
        "_send",
        "added",
        "connection",
        "headers",
        "is_whole",
        "label",
        "message_id",
        "method",
        "query",
        "receive",
        "request_id",
        "seen",
        "sent_bytes",
        "status",
    )

    def __init__(
        self,
        scope: Mapping[str, Any],
        receive: Receive,
        send: Send,
        *,
        known: KnownHeaders | None = None,
        added: Sequence[RawHeader] = (),
    ) -> None:
        self.method: str = scope["method"]
        self.query: bytes = scope.get("query_string", b"")
        raw = scope["headers"]
        given = dict(raw)
        self.headers = known.of(raw, names=given) if known is not None else Headers(raw)
        self.request_id: bytes | None = given.get(b"x-request-id")
        self._length: bytes | None = given.get(b"content-length")
        self.label = ""
        self.connection = ""
        self.message_id: str | int | None = None
        self.added = list(added)
        self.receive, self._send = receive, send
        self.seen: AnswerEnd | None = None
        self.status, self.sent_bytes, self.is_whole = 0, 0, False

    async def body(self, *, most: int) -> bytes:
        """Return the request's body.

        Raises:
            FailedError: It is longer than `most` bytes; 400, and the rest of it is not read. Security notes G10.
            ClientGoneError: It will not come to its end.
        """
        read: bytes = b""
        length = int(self._length or 0)
        while length <= most:
            message = await self.receive()
            if message["type"] != "http.request":
                raise ClientGoneError
            read += message.get("body", b"")
            length = len(read)
            if length <= most and not message.get("more_body"):
                return read
        raise FailedError(400, f"The message is longer than {most} bytes.", headers=(CLOSE,))

    async def answer(self, answer: Answer) -> None:
        """Send an answer of our own."""
        await self.whole(answer.status, answer.headers, answer.body)

    async def whole(self, status: int, headers: Iterable[RawHeader], body: bytes) -> None:
        """Send an answer that is known to its end."""
        length = () if status == 204 else ((b"content-length", b"%d" % len(body)),)
        await self.begin(status, (*headers, *length))
        await self.finish(b"" if self.method == "HEAD" else body)

    async def begin(self, status: int, headers: Iterable[RawHeader]) -> None:
        """Send the head of an answer."""
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self.added]})

    async def piece(self, data: bytes) -> None:
        """Send a part of the body; returns when what was sent before is nearly out."""
        self._note(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        """Send the last part of the body."""
        self._note(data)
        self.is_whole = True
        await self._send({"type": "http.response.body", "body": data})

    def _note(self, data: bytes) -> None:
        self.sent_bytes += len(data)
        if self.seen is not None:
            self.seen.feed(data)
