"""The answer where somebody has to do something first, in the form that the client understands: never an empty list.

* 2026-07-28, a client that opens links, and a method that may ask: `input_required` with a URL elicitation.
* Older clients that open links: the error -32042.
* Everybody else: a failed tool call, or a JSON-RPC error, with the link in words.

A 401 or 403 would be wrong: our token is good, and the client would ask us for another one without end.

Spec: MCP 2026-07-28 and 2025-11-25, client features, elicitation. E-01 to E-06, G-22; field notes, pain 7.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..endpoint.answers import JSON, NO_STORE, SERVER_ERROR, Answer
from ..messages import Era, Message
from ..sessions.bound import OPENS_LINKS
from .links import Link, link_for
from .reasons import HELPED_BY_LINK, NeedsPersonError, Reason
from .request_state import CONNECT, Bound, may_ask, state_to_connect

if TYPE_CHECKING:
    from oauthflow.hot_path.threads import Threads

    from ..callers.caller import Caller

URL_ELICITATION_REQUIRED: Final = -32042
_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
_COMPACT: Final = json.JSONEncoder(separators=(",", ":"))


def opens_links(message: Message | None, *, session_id: bytes | None = None) -> bool:
    """Whether a client has said that it can send its person to a link. E-02: `{}` means forms only.

    Args:
        message: Says it in the modern era, and at the beginning of a session.
        session_id: Ours of an older session, which knows it since.
    """
    if message is None or (message.era is Era.LEGACY and message.method != "initialize"):
        return session_id is not None and session_id.endswith(OPENS_LINKS)
    if message.era is Era.MODERN:
        declared = _member(_member(message.params, "_meta"), _CAPABILITIES)
    else:
        declared = _member(message.params, "capabilities")
    return isinstance(_member(_member(declared, "elicitation"), "url"), dict)


@dataclass(frozen=True, slots=True)
class Asking:
    """Whose request cannot go on.

    Attributes:
        message: That the client sent; None for GET and DELETE.
        caller: Who gets the link; it works for nobody else.
        opens_links: Whether the client has declared that it can; see the function of that name.
        declined: The person was sent to a link a moment ago and did not want it.
    """

    message: Message | None
    caller: Caller
    opens_links: bool
    declined: bool = False


async def answer_needs_person(error: NeedsPersonError, *, asking: Asking, threads: Threads) -> Answer:
    """Say what is missing, with the link by which this person gets on, where they can; it is made in `threads`."""
    link: Link | None = None
    if error.reason in HELPED_BY_LINK:
        try:
            link = await threads.run(partial(link_for, error, user_id=asking.caller.user_id))
        except NeedsPersonError as other:
            error = other
    requests = _requests(asking.message)
    if error.reason == Reason.DEGRADED:
        id = requests[0].id if len(requests) == 1 else None
        return _answer(_error(error, link, id=id), 503, wait_seconds=error.wait_seconds)
    if asking.message is None or not requests:
        return _answer(_error(error, link, id=None), 409)
    answers = [_document(request, error, link, asking=asking) for request in requests]
    return _answer(answers if asking.message.kind == "batch" else answers[0], 200)


def _requests(message: Message | None) -> list[Message]:
    members = (message, *message.members) if message is not None else ()
    return [member for member in members if member.kind == "request"]


def _document(request: Message, error: NeedsPersonError, link: Link | None, *, asking: Asking) -> dict[str, Any]:
    is_modern = request.era is Era.MODERN
    if link is not None and asking.opens_links and not asking.declined:
        if not is_modern:
            return _url_error(error, link, id=request.id)
        if may_ask(request):
            return _result(request, _input_required(error, link, Bound(asking.caller, error.server, request)))
    if request.method != "tools/call":
        return _error(error, link, id=request.id)
    failed = {"content": [{"type": "text", "text": _words(error, link)}], "isError": True}
    return _result(request, {"resultType": "complete", **failed} if is_modern else failed)


def _input_required(error: NeedsPersonError, link: Link, bound: Bound) -> dict[str, Any]:
    asked = {"mode": "url", "message": error.message, "url": link.url}
    return {
        "resultType": "input_required",
        "inputRequests": {CONNECT: {"method": "elicitation/create", "params": asked}},
        "requestState": state_to_connect(bound),
    }


def _url_error(error: NeedsPersonError, link: Link, *, id: str | int | None) -> dict[str, Any]:
    asked = {"mode": "url", "elicitationId": link.id, "url": link.url, "message": error.message}
    told = {"code": URL_ELICITATION_REQUIRED, "message": _words(error, link), "data": {"elicitations": [asked]}}
    return {"jsonrpc": "2.0", "id": id, "error": told}


def _error(error: NeedsPersonError, link: Link | None, *, id: str | int | None) -> dict[str, Any]:
    data = {"reason": error.reason, **({"url": link.url} if link is not None else {})}
    return {"jsonrpc": "2.0", "id": id, "error": {"code": SERVER_ERROR, "message": _words(error, link), "data": data}}


def _result(request: Message, result: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request.id, "result": result}


def _words(error: NeedsPersonError, link: Link | None) -> str:
    return f"{error.message} Open this link, then try again: {link.url}" if link is not None else error.message


def _answer(document: object, status: int, *, wait_seconds: int | None = None) -> Answer:
    later = ((b"retry-after", b"%d" % wait_seconds),) if wait_seconds is not None else ()
    return Answer(status, _COMPACT.encode(document).encode("ascii"), (JSON, NO_STORE, *later))


def _member(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
