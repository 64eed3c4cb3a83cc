"""Servers of 2024-11-05, with one stream for all answers and an address for messages, asked like every other server.

Each request has a session of its own there: the stream is opened, the session begun in our name, the request sent, and
what comes is relayed until its answer. So nothing is remembered between requests, and any process serves any of them;
what needs a lasting session (subscriptions, requests of the server) a client does not get.

Spec: MCP 2024-11-05, transports, HTTP with SSE; 2025-03-26, backwards compatibility. G-15, G-16.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from functools import partial
from itertools import pairwise
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from oauthflow.egress.relay_client import RelayClient, RelayedAnswer, ServerAnswer
from oauthflow.protocol.errors import MalformedResponseError

from ..endpoint.answers import FailedError
from ..messages import Era, Message, RefusedMessageError
from ..messages.message import INVALID_REQUEST, UNSUPPORTED_VERSION
from ..targets.target import Target
from .with_credentials import send_with_credentials

VERSION: Final = "2024-11-05"
_HELLO: Final = {
    "jsonrpc": "2.0", "id": "gateway", "method": "initialize",
    "params": {
        "protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "mcp-oauth-site", "version": "1"},
    },
}  # fmt: skip
_READY: Final = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_END_BYTES: Final = 3  # the longest without its last byte
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class BridgedAnswer:
    """What comes until the answer to one request, as the stream that a newer server would answer with."""

    status = 200

    def __init__(self, stream: RelayedAnswer, events: AsyncIterator[tuple[bytes, bytes]], id: object) -> None:
        self._stream, self._events, self._id = stream, events, id
        self._is_over = False

    def header(self, name: bytes) -> bytes:
        """Return a header of the answer that this stands for."""
        return b"text/event-stream" if name == b"content-type" else b""

    async def read_piece(self) -> bytes:
        """Return the next message as an event; empty after the answer.

        Raises:
            FlowError: The server broke off.
        """
        if self._is_over:
            return b""
        data = await _next_message(self._events)
        self._is_over = _answers(data, self._id)
        return b"event: message\ndata: " + data + b"\n\n"

    def is_complete(self) -> bool:
        """Whether the answer was read."""
        return self._is_over

    def close(self) -> None:
        """End the session there."""
        self._stream.close()


async def ask_old_server(
    client: RelayClient, target: Target, *, message: Message | None, most_bytes: int
) -> ServerAnswer:
    """Send a request to a server of 2024-11-05, in a session of its own.

    Args:
        client: To send with.
        target: Its address is the one of the server's stream.
        message: Of the client.
        most_bytes: Longest event.

    Returns:
        The messages until the answer; or the server's own answer where it refuses one of our requests.

    Raises:
        FailedError: 405 for GET and DELETE, which have nothing to refer to; 502, by reading the answer too, for an
            event that is too long.
        RefusedMessageError: Of a revision that such a server does not know.
        FlowError: The server cannot be reached, or does not do what such a server does.
    """
    request = _request_of(message)
    send, url = partial(send_with_credentials, client, target), target.server.url
    stream = await send("GET", url=url, headers=[(b"Accept", b"text/event-stream")], body=None)
    if stream.status != 200 or not stream.header(b"content-type").lower().startswith(b"text/event-stream"):
        return stream
    events = _events(stream, most_bytes=most_bytes)
    try:
        post = partial(
            send, "POST", url=await _endpoint(events, url=url), headers=[(b"Content-Type", b"application/json")]
        )
        if request.method != "initialize":
            for body in (json.dumps(_HELLO).encode(), _READY):
                refused = await _refused(await post(body=body))
                if refused is not None:
                    stream.close()
                    return refused
                if body is not _READY:
                    await _until_answer(events, _HELLO["id"])
        refused = await _refused(await post(body=request.body))
    except BaseException:
        stream.close()
        raise
    if refused is not None:
        stream.close()
        return refused
    return BridgedAnswer(stream, events, request.id)


def _request_of(message: Message | None) -> Message:
    if message is None:
        raise FailedError(405, "This server has no sessions that last.", headers=((b"allow", b"POST"),))
    if message.era is Era.MODERN:
        data = {"supported": [VERSION], "requested": message.version}
        raise RefusedMessageError(UNSUPPORTED_VERSION, "Unsupported protocol version", id=message.id, data=data)
    if message.kind != "request":
        raise RefusedMessageError(INVALID_REQUEST, "This server takes single requests only.", id=message.id)
    return message


async def _endpoint(events: AsyncIterator[tuple[bytes, bytes]], *, url: str) -> str:
    """Return where messages go; elsewhere than at the server itself our credentials have no business."""
    async for kind, data in events:
        if kind == b"endpoint":
            found = urljoin(url, data.decode("ascii", "replace"))
            if urlsplit(found)[:2] != urlsplit(url)[:2]:
                raise MalformedResponseError("the address for messages is at another server")
            return found
    raise MalformedResponseError("the stream names no address for messages")


async def _refused(answer: RelayedAnswer) -> RelayedAnswer | None:
    """Return an answer that says no; one that says yes has nothing else to say."""
    if answer.status >= 300:
        return answer
    try:
        while await answer.read_piece():
            continue
    finally:
        answer.close()
    return None


async def _until_answer(events: AsyncIterator[tuple[bytes, bytes]], id: object) -> None:
    while not _answers(await _next_message(events), id):
        continue


async def _next_message(events: AsyncIterator[tuple[bytes, bytes]]) -> bytes:
    async for kind, data in events:
        if kind == b"message":
            return data
    raise MalformedResponseError("the stream ended before the answer")


async def _events(stream: RelayedAnswer, *, most_bytes: int) -> AsyncIterator[tuple[bytes, bytes]]:
    """Give the kind and the data of each event. WHATWG HTML §9.2.6."""
    held, searched = bytearray(), 0
    while piece := await stream.read_piece():
        held += piece
        # What was searched is not searched again: an event of many pieces would take time without end.
        found = [end.end() for end in _EVENT_END.finditer(held, max(0, searched - _END_BYTES))]
        whole = [bytes(held[start:end]) for start, end in pairwise((0, *found))]
        del held[: found[-1] if found else 0]
        searched = len(held)
        if searched > most_bytes:
            raise FailedError(502, "The server's answer is too long.")
        for event in whole:
            fields = [line.partition(b":") for line in _LINE_END.split(event)]
            kind = next((value.strip() for name, _, value in fields if name == b"event"), b"message")
            data = b"".join(value.removeprefix(b" ") for name, _, value in fields if name == b"data")
            if data:
                yield kind, data


def _answers(data: bytes, id: object) -> bool:
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "method" not in found and found.get("id") == id
