"""`requestState` on its way through a client: sealed, and good for the same person, program and request only.

A server's own state is wrapped and never read; ours carries what was on its way to the server while somebody connects.
What comes back is as little to be trusted as anything else that a client sends.

Spec: MCP 2026-07-28, patterns, multi round-trip requests. G-22, E-05, E-09; A6 G11.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from django.core.cache import cache

from connections.sealing import seal, unseal
from oauthflow.protocol.errors import SecretUnreadableError
from oauthflow.protocol.secret import Secret

from ..callers.caller import Caller
from ..messages import Era, Message, RefusedMessageError
from ..messages.message import ENCODER, INVALID_PARAMS
from ..targets.target import ServerRow

if TYPE_CHECKING:
    from oauthflow.hot_path.threads import Threads

CONNECT: Final = "connect"
"""The key of our one input request."""
LIFE_SECONDS: Final = 600

_METHODS: Final = frozenset({"tools/call", "prompts/get", "resources/read"})
_STATE, _RESPONSES = "requestState", "inputResponses"
_NOT_BOUND: Final = frozenset({"_meta", _STATE, _RESPONSES})
_COMPACT: Final = json.JSONEncoder(separators=(",", ":"))
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_REFUSED: Final = "The requestState is not good here, or not any more. Send the request again without it."


def may_ask(message: Message) -> bool:
    """Whether the answer to this message may ask for input instead of giving a result."""
    return message.era is Era.MODERN and message.kind == "request" and message.method in _METHODS


@dataclass(frozen=True, slots=True)
class Bound:
    """What a state is good for: one request of one person through one program to one server."""

    caller: Caller
    server: ServerRow
    message: Message

    @property
    def context(self) -> str:
        """The same for a request that is sent again with an answer; another one for every other request."""
        params = {name: value for name, value in self.message.params.items() if name not in _NOT_BOUND}
        bound_to = [self.caller.user_id, self.caller.subject, self.caller.client_id, self.server.id.hex]
        text = _CANONICAL.encode([*bound_to, self.message.method, params])
        return f"gateway.requestState\n{hashlib.sha256(text.encode()).hexdigest()}"


def brings_state(message: Message) -> bool:
    """Whether a request that may ask carries a state."""
    return message.params.get(_STATE) is not None


@dataclass(frozen=True, slots=True)
class Reopened:
    """A request as the server is to see it.

    Attributes:
        message: With the server's own state, or none.
        used: The name of a state of ours that came back; empty: none did.
        declined: Whether the person was shown our link and did not want it.
    """

    message: Message
    used: str = ""
    declined: bool = False


def reopened(bound: Bound) -> Reopened:
    """Open the state that a request brings.

    Raises:
        RefusedMessageError: 400: it is not ours, was sealed for somebody or something else, was changed, or is old.
    """
    message = bound.message
    sent = message.params.get(_STATE)
    if sent is None or not may_ask(message):
        return Reopened(message)
    held = _opened(sent, bound)
    if held is None or held["until"] < time.time():
        raise refused_state(message)
    if not held["name"]:
        return Reopened(_with(message, {_STATE: held["state"], _RESPONSES: message.params.get(_RESPONSES)}))
    answer = _mapping(_mapping(message.params.get(_RESPONSES)).get(CONNECT))
    declined = answer.get("action") in ("decline", "cancel")
    restored = _with(message, {_STATE: held["state"], _RESPONSES: held["responses"]})
    return Reopened(restored, held["name"], declined)


def refused_state(message: Message) -> RefusedMessageError:
    """Return the refusal of a state that is not good, and says no more than that."""
    return RefusedMessageError(INVALID_PARAMS, _REFUSED, id=message.id)


async def redeemed(bound: Bound, *, threads: Threads) -> Reopened:
    """The same, using a state of ours up. Errors as `reopened`; also for one that was used before."""
    found = reopened(bound)
    if found.used and not await threads.run(partial(redeem, found.used)):
        raise refused_state(bound.message)
    return found


def redeem(name: str) -> bool:
    """Use a state of ours up, for all processes; False if it was used before. Asks the cache, so it may block."""
    return bool(cache.add(f"gateway-state-{name}", True, timeout=LIFE_SECONDS))


def state_to_connect(bound: Bound) -> str:
    """Seal what the request carries besides its parameters, for when the person has connected."""
    params = bound.message.params
    return _sealed(bound, name=secrets.token_hex(16), state=params.get(_STATE), responses=params.get(_RESPONSES))


def wrapping(bound: Bound) -> Callable[[bytes], bytes | None]:
    """Return what wraps the state in a JSON message of the server; it returns None for a message without one."""

    def wrapped(body: bytes) -> bytes | None:
        if b'"requestState"' not in body:
            return None
        try:
            document = json.loads(body)
            state = document["result"][_STATE]
            document["result"][_STATE] = _sealed(bound, name="", state=state, responses=None)
            return _COMPACT.encode(document).encode("ascii")
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    return wrapped


def _sealed(bound: Bound, *, name: str, state: object, responses: object) -> str:
    held = {"until": int(time.time()) + LIFE_SECONDS, "name": name, "state": state, "responses": responses}
    return str(seal(Secret(_COMPACT.encode(held)), context=bound.context))


def _opened(sent: object, bound: Bound) -> dict[str, Any] | None:
    if not isinstance(sent, str) or not _is_as_written(sent):
        return None
    try:
        held: dict[str, Any] = json.loads(unseal(sent, context=bound.context).reveal())
    except SecretUnreadableError:
        return None
    return held


def _is_as_written(sent: str) -> bool:
    """Base64 is read leniently: with something behind its end, or in between, it would open all the same."""
    try:
        return urlsafe_b64encode(urlsafe_b64decode(sent)).decode() == sent
    except ValueError:
        return False


def _with(message: Message, changed: Mapping[str, object]) -> Message:
    """Return a request with other parameters; None takes one away."""
    wanted = {**message.params, **changed}
    params = {name: value for name, value in wanted.items() if value is not None or name not in changed}
    document = {"jsonrpc": "2.0", "id": message.id, "method": message.method, "params": params}
    return replace(message, params=params, body=ENCODER.encode(document).encode())


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
