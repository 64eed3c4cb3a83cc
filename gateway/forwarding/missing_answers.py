"""A stream that ends here before it held the answer says so to the client, which would wait in vain. G-10, G-24."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ..endpoint.answers import SERVER_ERROR
from ..messages import Message, error_body
from .edited_events import ENDS_OF_EVENT, messages_in

if TYPE_CHECKING:
    from ..calls.outcome import AnswerEnd

_NO_MESSAGE: Final = b"event: incomplete\n\n"
_HAS_ID: Final = re.compile(rb"(?:^|[\r\n])id: ?[^ \r\n]")


def missing_answers(
    message: Message | None, relayed: AnswerEnd | None, *, words: str, may_resume: bool = False
) -> bytes:
    """Return the events that a stream ends with: an error for each request that it has not answered.

    An event that has begun gets a type that means nothing, so that its beginning is not taken for a message.

    Args:
        message: Of the client; None for GET, which waits for nothing.
        relayed: The end of what the client got; None where it waits for nothing.
        words: Why there is no answer.
        may_resume: Whether the client can come back for the answer if the events have ids: an error would be the
            answer, and it would not come. G-17.

    Spec: JSON-RPC 2.0 §5; WHATWG HTML §9.2.6.
    """
    if message is None or relayed is None:
        return b""
    kept, is_cut = relayed.kept()
    if may_resume and _HAS_ID.search(kept):
        return b""
    messages = messages_in(kept)
    # Of what is longer than what is kept there is the end only. Answers are that long, and come last; but those of a
    # batch may all be in what is gone.
    if is_cut and (message.members or (messages and not any(messages[1:]))):
        return b""
    answered = {id for data in messages for id in _answered_by(data or b"null")}
    requests = [one.id for one in (message, *message.members) if one.kind == "request"]
    errors = [error_body(SERVER_ERROR, words, id=id) for id in requests if id not in answered]
    events = b"".join([b"event: message\ndata: %b\n\n" % error for error in errors])
    if not events or not kept or kept.endswith(ENDS_OF_EVENT):
        return events
    return (b"" if kept.endswith((b"\n", b"\r")) else b"\n") + _NO_MESSAGE + events


def _answered_by(data: bytes) -> Iterator[str | int]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return
    for answer in found if isinstance(found, list) else [found]:
        if isinstance(answer, dict) and "method" not in answer and isinstance(answer.get("id"), str | int):
            yield answer["id"]
