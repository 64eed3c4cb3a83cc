"""Lists of tools on their way to a client: without what this person may not use; and noted for comparison.

We keep no answer, so nothing is ever shared between tokens. A list that depends on the person must not be shared by a
cache further on either: it is marked private. G-20.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from ..definitions.compare import DefinitionWatch, digest_of, with_names
from ..endpoint.answers import FailedError
from ..forwarding.edited_events import Edit
from ..messages.strict_json import DEEPEST, is_deeper
from .policy import Policy

if TYPE_CHECKING:
    from ..messages.message import Message

_JSON: Final = json.JSONEncoder(separators=(",", ":"))
_DEEPEST: Final = DEEPEST + 3  # a tool lies inside of list, result and answer
_UNREADABLE: Final = "The server's list of tools cannot be read."


def list_edit(message: Message | None, *, server_id: UUID, policy: Policy, watch: DefinitionWatch) -> Edit | None:
    """Return what has to see each JSON-RPC document of an answer; None where none has to be seen.

    Args:
        message: What is answered; None for a stream that a GET opened, which may repeat any answer.
        server_id: The server.
        policy: Of the caller.
        watch: Gets to see every list.
    """
    if message is None:
        return None if policy.shows_all else _Lists(server_id, policy, watch).edited
    if message.method == "tools/list" or message.kind == "batch":
        return _Lists(server_id, policy, watch).edited
    return None


class _Lists:
    def __init__(self, server_id: UUID, policy: Policy, watch: DefinitionWatch) -> None:
        self._server_id, self._policy, self._watch = server_id, policy, watch

    def edited(self, document: bytes) -> bytes | None:
        """Return the document as this person may see it; None where that is no difference.

        Raises:
            FailedError: 502, nobody knows what it holds.
        """
        parsed = _read(document)
        answers = parsed if isinstance(parsed, list) else [parsed]
        results = [found for answer in answers if (found := _result_of(answer))]
        for result in results:
            self._watch.note(self._server_id, tuple(result["tools"]))
        if not results or self._policy.shows_all:
            return None
        for result in results:
            result["tools"] = self._shown(result["tools"])
            if "cacheScope" in result:
                result["cacheScope"] = "private"
        return _JSON.encode(parsed).encode()

    def _shown(self, tools: Sequence[Any]) -> list[Any]:
        return [tool for tool in with_names(tools) if self._is_shown(tool)]

    def _is_shown(self, tool: dict[str, Any]) -> bool:
        approvals = self._policy.approvals
        if not self._policy.allows(tool["name"]):
            return False
        return approvals is None or not approvals.holds_back(tool["name"], digest=digest_of(tool))


def _read(document: bytes) -> Any:
    """What we cannot read, a client may: with broken characters, endless numbers, or nested without end. G16."""
    try:
        parsed = json.loads(document) if document.strip() else None  # an event may be empty
    except (ValueError, RecursionError):
        raise FailedError(502, _UNREADABLE) from None
    if is_deeper(parsed, than=_DEEPEST):
        raise FailedError(502, _UNREADABLE)
    return parsed


def _result_of(answer: Any) -> dict[str, Any] | None:
    """Return the result, if it is one of `tools/list`."""
    result = answer.get("result") if isinstance(answer, dict) else None
    return result if isinstance(result, dict) and isinstance(result.get("tools"), list) else None
